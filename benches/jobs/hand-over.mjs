// A process that holds a lease again and again, waiting for it each time.

import { setTimeout as sleep } from 'node:timers/promises'
import { load } from '../candidates.mjs'

/** How long it is held: long enough for the others to be waiting. */
const HELD = 10

/** @param {{folder: string}} argument */
export function prepare({ folder }) {
  const { PhaseLeaseManager } = load('driftlock')
  return new PhaseLeaseManager(folder)
}

/**
 * @param {{times: number}} argument
 * @param {import('../../index.js').PhaseLeaseManager} leases
 * @returns when it was held, by the clock that all processes share, in ms
 */
export async function run({ times }, leases) {
  const now = () => Number(process.hrtime.bigint()) / 1e6
  const holds = []
  for (let i = 0; i < times; i++) {
    const lease = await leases.hold('T', 'PLAN', { waitMs: 60_000 })
    const from = now()
    await sleep(HELD)
    const end = now()
    if (!(await lease.release())) throw new Error('a lease was lost')
    holds.push({ from, end })
  }
  leases.close()
  return holds
}
