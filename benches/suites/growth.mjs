// Every operation as the workspace grows. At 100,000 the reference needs seconds for a handful of calls; beyond that
// only the package is measured.

import { load } from '../candidates.mjs'
import { firstAttestation, history, repeatedAttestation, statistics } from '../cases/attestations.mjs'
import { acquireAndRelease, holds, refused, renew } from '../cases/leases.mjs'
import { append, ledgerHistory, ledgerStatistics, verification } from '../cases/ledger.mjs'
import { transition } from '../cases/transition.mjs'
import { measure } from '../measure.mjs'
import { copyWorkspace, makeFolder, prepareWorkspace, remove } from '../workspaces.mjs'
import { firstCalls } from './first-call.mjs'
import { memoryAt } from './memory.mjs'

/** @typedef {import('./suite.mjs').Step} Step */
/** @typedef {import('./suite.mjs').Context} Context */
/** @typedef {import('../cases/case.mjs').Case} Case */

export const SIZES = [0, 1000, 10_000, 100_000, 1_000_000]
const QUICK_SIZES = [0, 1000, 10_000]
const REFERENCE_UP_TO = 100_000

/** In this order: those that read find just what was prepared. */
const JOURNALS = [
  history,
  statistics,
  ledgerHistory,
  ledgerStatistics,
  verification,
  repeatedAttestation,
  firstAttestation,
  append,
  transition,
]
const LEASES = [acquireAndRelease, renew, holds, refused]

/** @type {Step[]} */
export const growth = SIZES.map((size) => ({
  name: `growth at ${size}`,
  async run(context) {
    if (context.quick && !QUICK_SIZES.includes(size)) return
    const workspace = prepareWorkspace(size)
    if (size > 0) await firstCalls(context, workspace, size, size <= REFERENCE_UP_TO)
    await memoryAt(context, workspace, size)
    await run(context, JOURNALS, workspace, size)
    await run(context, LEASES, makeFolder(), size)
  },
}))

/**
 * @param {Context} context
 * @param {Case[]} cases
 * @param {string} folder
 * @param {number} size
 */
async function run({ results, quick, advance }, cases, folder, size) {
  const folders = { driftlock: folder, reference: size <= REFERENCE_UP_TO ? copyWorkspace(folder) : undefined }
  for (const one of cases) {
    /** @type {Record<string, import('../measure.mjs').Operation>} */
    const candidates = { driftlock: await one.setUp(load('driftlock'), folders.driftlock, size) }
    if (folders.reference) candidates.reference = await one.setUp(load('reference'), folders.reference, size)
    const amount = { iterations: quick ? 100 : 1000, warmUp: 100, budget: quick ? 200 : 1500 }
    results.growth.push({ name: one.name, size, candidates: await measure(candidates, amount) })
    advance()
  }
  remove(folders.driftlock)
  if (folders.reference) remove(folders.reference)
}
