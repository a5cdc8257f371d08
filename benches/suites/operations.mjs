// Every operation on a small workspace: the table of percentiles.

import { load } from '../candidates.mjs'
import { firstAttestation, history, repeatedAttestation, statistics } from '../cases/attestations.mjs'
import { acquire, acquireAndRelease, holds, refused, release, renew } from '../cases/leases.mjs'
import { append, verification } from '../cases/ledger.mjs'
import { fileLock } from '../cases/locks.mjs'
import { transition } from '../cases/transition.mjs'
import { measure } from '../measure.mjs'
import { makeFolder, prepareWorkspace, remove } from '../workspaces.mjs'

/** @typedef {import('../cases/case.mjs').Case} Case */
/** @typedef {import('./suite.mjs').Step} Step */

/** Operations that write begin with nothing. */
const WRITING = [
  acquire,
  release,
  acquireAndRelease,
  renew,
  holds,
  refused,
  firstAttestation,
  repeatedAttestation,
  fileLock,
  append,
  transition,
]
/** Those that read find this many records, which are few enough for the reference to be measured often. */
const READING = [history, statistics, verification]
const RECORDS = 1000

/** @type {Step[]} */
export const operations = [...WRITING.map((one) => stepFor(one, 0)), ...READING.map((one) => stepFor(one, RECORDS))]

/**
 * @param {Case} one
 * @param {number} size
 * @returns {Step}
 */
function stepFor(one, size) {
  return {
    name: one.name,
    async run({ results, quick, advance }) {
      /** @type {string[]} */
      const folders = []
      const folder = () => {
        folders.push(size ? prepareWorkspace(size) : makeFolder())
        return folders[folders.length - 1] ?? ''
      }
      /** @type {Record<string, import('../measure.mjs').Operation>} */
      const candidates = {
        driftlock: await one.setUp(load('driftlock'), folder(), size),
        reference: await one.setUp(load('reference'), folder(), size),
      }
      for (const [name, setUp] of Object.entries(one.floors ?? {})) candidates[name] = setUp(folder())
      const iterations = (one.iterations ?? 1000) / (quick ? 10 : 1)
      const found = await measure(candidates, { iterations, warmUp: quick ? 50 : 200 }, advance)
      results.operations.push({ name: one.name, size, candidates: found })
      folders.forEach(remove)
    },
  }
}
