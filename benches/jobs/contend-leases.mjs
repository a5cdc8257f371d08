// One of several processes that acquire and release leases of the same keys.

import { setImmediate as nextTurn } from 'node:timers/promises'
import { load } from '../candidates.mjs'
import { openRaw } from '../raw-leases.mjs'

/** @typedef {{candidate: import('../candidates.mjs').CandidateName | 'better-sqlite3', folder: string, keys: number, duration: number}} Argument */

/** @param {Argument} argument */
export function prepare({ candidate, folder }) {
  if (candidate === 'better-sqlite3') return bare(folder)
  const { PhaseLeaseManager } = load(candidate)
  return new PhaseLeaseManager(folder)
}

/** @param {string} folder */
function bare(folder) {
  const raw = openRaw(folder)
  return {
    acquireLease: async (/** @type {string} */ task) => ({ acquired: raw.insert(task) === 1, holder: '', reason: '' }),
    releaseLease: async (/** @type {string} */ task) => raw.delete(task) === 1,
    close: raw.close,
  }
}

/**
 * @param {Argument} argument
 * @param {ReturnType<typeof prepare>} manager
 */
export async function run({ keys, duration }, manager) {
  /** @type {number[]} */
  const durations = []
  const end = performance.now() + duration
  while (performance.now() < end) {
    const task = `TASK-${Math.floor(Math.random() * keys)}`
    const asked = performance.now()
    const { acquired, reason, holder } = await manager.acquireLease(task, 'PLAN')
    if (acquired) {
      if (!(await manager.releaseLease(task, 'PLAN'))) throw new Error('a lease was not released')
      durations.push(performance.now() - asked)
    } else if (holder === undefined && reason?.startsWith('Internal error: ') && !/UNIQUE/.test(reason)) {
      throw new Error(reason)
    }
    await nextTurn()
  }
  manager.close()
  return durations
}
