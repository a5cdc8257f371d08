// Several processes that want the same, and many calls at once.

import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { load } from '../candidates.mjs'
import { runTogether } from '../processes.mjs'
import { median, summarize } from '../summary.mjs'
import { makeFolder, promptOf, remove } from '../workspaces.mjs'

/** @typedef {import('./suite.mjs').Step} Step */

const PROCESSES = 8
const KEYS = 1000
const AT_ONCE = 1000

/** @type {Step} */
const fileLock = {
  name: 'contended file lock',
  async run({ results, quick, advance }) {
    for (const candidate of ['driftlock', 'proper-lockfile', 'reference']) {
      const folder = makeFolder()
      writeFileSync(join(folder, 'counter'), new Float64Array(1))
      const argument = { candidate, folder, duration: quick ? 1000 : 5000 }
      const waits = await together('contend-lock', argument)
      const total = addContention(results, 'contended file lock', candidate, waits, argument.duration)
      const counted = new Float64Array(new Uint8Array(readFileSync(join(folder, 'counter'))).buffer)[0] ?? 0
      results.add('contended file lock: updates lost', candidate, total - counted, '')
      if (candidate === 'driftlock' && counted !== total) throw new Error(`${total - counted} updates were lost`)
      remove(folder)
      advance()
    }
  },
}

/** @type {Step} */
const leases = {
  name: 'contended database',
  async run({ results, quick, advance }) {
    for (const candidate of ['driftlock', 'reference']) {
      const folder = makeFolder()
      const argument = { candidate, folder, keys: KEYS, duration: quick ? 1000 : 5000 }
      const pairs = await together('contend-leases', argument)
      addContention(results, 'contended database', candidate, pairs, argument.duration)
      remove(folder)
      advance()
    }
  },
}

/** @type {Step} */
const attestations = {
  name: 'attestations at once',
  async run({ results, quick, advance }) {
    for (const candidate of /** @type {const} */ (['driftlock', 'reference'])) {
      const durations = []
      let fewest = AT_ONCE
      for (let i = 0; i < (quick ? 3 : 9); i++) {
        const { milliseconds, recorded } = await attestAtOnce(load(candidate))
        durations.push(milliseconds)
        fewest = Math.min(fewest, recorded)
      }
      results.add('1,000 attestations at once', candidate, median(durations), 'ms')
      results.add('1,000 attestations at once: recorded', candidate, fewest, '')
      advance()
    }
  },
}

export const contention = [fileLock, leases, attestations]

/**
 * @param {string} job
 * @param {object} argument
 * @returns {Promise<number[][]>} durations, by process
 */
function together(job, argument) {
  return runTogether(job, Array(PROCESSES).fill(argument))
}

/**
 * @param {import('../results.mjs').Results} results
 * @param {string} name
 * @param {string} candidate
 * @param {number[][]} durations
 * @param {number} milliseconds
 */
function addContention(results, name, candidate, durations, milliseconds) {
  const counts = durations.map((list) => list.length)
  const total = counts.reduce((sum, count) => sum + count, 0)
  const { p50, p99, max } = summarize(durations.flat())
  results.add(name, candidate, (total / milliseconds) * 1000, '/s')
  results.add(`${name}: p50`, candidate, p50, 'ms')
  results.add(`${name}: p99`, candidate, p99, 'ms')
  results.add(`${name}: max`, candidate, max, 'ms')
  results.add(`${name}: slowest process by mean`, candidate, Math.min(...counts) / (total / counts.length), '')
  return total
}

/** @param {import('../candidates.mjs').Api} api */
async function attestAtOnce(api) {
  const folder = makeFolder()
  const manager = new api.PromptAttestationManager(folder)
  await manager.initialize()
  await manager.attest({ ...promptOf(0), taskId: 'first' })
  const prompts = Array.from({ length: AT_ONCE }, (_, i) => promptOf(i))
  const start = performance.now()
  await Promise.all(prompts.map((prompt) => manager.attest(prompt)))
  const milliseconds = performance.now() - start
  const recorded = countRecorded(join(folder, 'state', 'process'))
  remove(folder)
  return { milliseconds, recorded }
}

/**
 * How many of them have both a record and a baseline; none if a file is torn.
 * @param {string} folder
 */
function countRecorded(folder) {
  try {
    const records = readFileSync(join(folder, 'prompt_attestations.jsonl'), 'utf8').trimEnd().split('\n')
    const baselines = JSON.parse(readFileSync(join(folder, 'prompt_baselines.json'), 'utf8'))
    // One was attested before.
    return Math.min(records.length, Object.keys(baselines).length) - 1
  } catch {
    return 0
  }
}
