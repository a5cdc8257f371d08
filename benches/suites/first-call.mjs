// What a fresh process waits for when it first asks for something on a large workspace.

import { MODULES } from '../candidates.mjs'
import { runJob } from '../processes.mjs'
import { summarizeRounds } from '../summary.mjs'

const CALLS = {
  attestation: 'first call: repeated attestation',
  history: 'first call: history of one task',
  statistics: 'first call: statistics',
  ledgerStatistics: 'first call: ledger statistics',
}

/**
 * @param {import('./suite.mjs').Context} context
 * @param {string} folder
 * @param {number} size
 * @param {boolean} withReference
 */
export async function firstCalls({ results, quick, advance }, folder, size, withReference) {
  const times = quick ? 3 : 7
  for (const [call, name] of Object.entries(CALLS)) {
    /** @type {Record<string, number[]>} */
    const durations = withReference ? { driftlock: [], reference: [] } : { driftlock: [] }
    for (let i = 0; i < times; i++) {
      for (const [candidate, list] of Object.entries(durations)) {
        const module = MODULES[/** @type {keyof typeof MODULES} */ (candidate)]
        list.push(await runJob('first-call', { module, folder, call, size }))
      }
    }
    const candidates = Object.fromEntries(
      Object.entries(durations).map(([key, list]) => [key, summarizeRounds(list.map((one) => [one]))]),
    )
    results.growth.push({ name, size, candidates })
    advance()
  }
}
