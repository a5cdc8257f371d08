// A process with many who wait for a lease.

import { setTimeout as sleep } from 'node:timers/promises'
import { load } from '../candidates.mjs'

/** @param {{folder: string, waiters: number}} argument */
export async function prepare({ folder, waiters }) {
  const { PhaseLeaseManager } = load('driftlock')
  const leases = new PhaseLeaseManager(folder)
  const lease = await leases.hold('T', 'PLAN')
  const waiting = Array.from({ length: waiters }, () => leases.hold('T', 'PLAN', { waitMs: 60_000 }))
  await sleep(500)
  return { leases, lease, waiting }
}

/**
 * @param {{milliseconds: number}} argument
 * @param {Awaited<ReturnType<typeof prepare>>} prepared
 * @returns the share of a core that waiting took, in percent
 */
export async function run({ milliseconds }, { leases, lease, waiting }) {
  const [start, before] = [performance.now(), process.cpuUsage()]
  await sleep(milliseconds)
  const { user, system } = process.cpuUsage(before)
  const share = (user + system) / 10 / (performance.now() - start)
  await lease.release()
  for (const turn of waiting) {
    if (!(await (await turn).release())) throw new Error('a waiter did not get its turn')
  }
  leases.close()
  return share
}
