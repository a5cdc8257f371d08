// For how long the event loop stands still. Other programs on the machine only make that longer, so each case is
// repeated and the least counts: what the code does itself, it does each time. What a process sees that does nothing is
// measured beside it.

import { runJob } from '../processes.mjs'
import { copyWorkspace, makeFolder, prepareWorkspace, remove } from '../workspaces.mjs'

export const STALL_CASES = [
  'a held database',
  '1,000 leases pending',
  '1,000 attestations pending',
  '1,000 ledger appends pending',
  'checkpoints',
  'a reset among 100,000 baselines',
]

/** The reference resets no baselines. */
const ONLY_OURS = ['nothing', 'a reset among 100,000 baselines']

/** @type {import('./suite.mjs').Step[]} */
export const stalls = ['nothing', ...STALL_CASES].map((what) => ({
  name: `stall: ${what}`,
  async run({ results, quick, advance }) {
    const original = what.endsWith('baselines') ? prepareWorkspace(100_000) : undefined
    for (const candidate of ONLY_OURS.includes(what) ? ['driftlock'] : ['driftlock', 'reference']) {
      const longest = []
      for (let i = 0; i < (quick ? 3 : 7); i++) {
        const folder = original === undefined ? makeFolder() : copyWorkspace(original)
        longest.push(await runJob('stall', { candidate, folder, what }))
        remove(folder)
      }
      results.add(`stall: ${what}`, candidate, Math.min(...longest), 'ms')
      advance()
    }
    if (original !== undefined) remove(original)
  },
}))
