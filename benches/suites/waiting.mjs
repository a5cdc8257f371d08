// Waiting for a lease: how soon it is handed over to another process, and what it costs to wait.

import { runJob, runTogether } from '../processes.mjs'
import { summarize } from '../summary.mjs'
import { makeFolder, remove } from '../workspaces.mjs'

const WAITERS = 100

/** @type {import('./suite.mjs').Step} */
const handOver = {
  name: 'hand-over of a held lease',
  async run({ results, quick, advance }) {
    const folder = makeFolder()
    const argument = { folder, times: quick ? 50 : 300 }
    const holds = await runTogether('hand-over', [argument, argument])
    const all = holds.flatMap((own, process) => own.map((/** @type {object} */ hold) => ({ ...hold, process })))
    all.sort((a, b) => a.from - b.from)
    const waits = []
    for (let i = 1; i < all.length; i++) {
      if (all[i].process !== all[i - 1].process) waits.push(all[i].from - all[i - 1].end)
    }
    if (waits.length < all.length / 2) throw new Error('the processes did not take turns')
    const { p50, p99 } = summarize(waits)
    results.add('hand-over of a held lease: p50', 'driftlock', p50, 'ms')
    results.add('hand-over of a held lease: p99', 'driftlock', p99, 'ms')
    remove(folder)
    advance()
  },
}

/** @type {import('./suite.mjs').Step} */
const waiters = {
  name: `${WAITERS} waiters in a process`,
  async run({ results, quick, advance }) {
    const shares = []
    for (let i = 0; i < (quick ? 1 : 3); i++) {
      const folder = makeFolder()
      shares.push(await runJob('waiters', { folder, waiters: WAITERS, milliseconds: quick ? 1000 : 3000 }))
      remove(folder)
    }
    results.add(`${WAITERS} waiters in a process`, 'driftlock', Math.min(...shares), '% of a core')
    advance()
  },
}

export const waiting = [handOver, waiters]
