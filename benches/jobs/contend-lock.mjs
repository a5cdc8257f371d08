// One of several processes that want one file lock all the time. What the lock guards is a number in a file.

import { openSync, readSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { lock } from 'proper-lockfile'
import { load } from '../candidates.mjs'

/** @typedef {{candidate: string, folder: string, duration: number}} Argument */

/** As much patience as the run needs, and proper-lockfile's pauses as short as suits it best here. */
const PATIENT = { timeout: 600_000, maxRetries: 1_000_000 }
const RETRIES = { forever: true, factor: 1, minTimeout: 2, maxTimeout: 4, randomize: true }

/** @param {Argument} argument */
export function prepare({ candidate, folder }) {
  const path = join(folder, 'counter')
  if (candidate !== 'proper-lockfile') {
    const { withFileLock } = load(/** @type {any} */ (candidate))
    return (/** @type {() => void} */ operation) => withFileLock(`${path}.lock`, operation, PATIENT)
  }
  return async (/** @type {() => void} */ operation) => {
    const release = await lock(path, { retries: RETRIES })
    operation()
    await release()
  }
}

/**
 * @param {Argument} argument
 * @param {(operation: () => void) => Promise<void>} withLock
 */
export async function run({ folder, duration }, withLock) {
  const file = openSync(join(folder, 'counter'), 'r+')
  const number = new Float64Array(1)
  /** @type {number[]} */
  const waits = []
  const end = performance.now() + duration
  while (performance.now() < end) {
    const asked = performance.now()
    await withLock(() => {
      waits.push(performance.now() - asked)
      readSync(file, number, 0, 8, 0)
      number[0] = (number[0] ?? 0) + 1
      writeSync(file, number, 0, 8, 0)
    })
    await nextTurn()
  }
  return waits
}
