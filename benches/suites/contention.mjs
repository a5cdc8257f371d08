// Several processes that want the same, and many calls at once.

import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { load } from '../candidates.mjs'
import { runTogether } from '../processes.mjs'
import { summarize } from '../summary.mjs'
import { makeFolder, promptOf, remove } from '../workspaces.mjs'

/** @typedef {import('./suite.mjs').Step} Step */

const PROCESSES = 8
const KEYS = 1000
const AT_ONCE = 1000

/** Candidates take turns. The round with the median throughput counts: now and then the system's order of processes is lucky. */
const ROUNDS = 5

/** @type {Step} */
const fileLock = {
  name: 'contended file lock',
  async run(context) {
    await takeTurns(context, 'contended file lock', ['driftlock', 'proper-lockfile', 'reference'], async (argument) => {
      const counter = join(argument.folder, 'counter')
      writeFileSync(counter, new Float64Array(1))
      const waits = await together('contend-lock', argument)
      const counted = new Float64Array(new Uint8Array(readFileSync(counter)).buffer)[0] ?? 0
      const lost = waits.flat().length - counted
      if (argument.candidate === 'driftlock' && lost !== 0) throw new Error(`${lost} updates were lost`)
      return { durations: waits, lost }
    })
  },
}

/** @type {Step} */
const leases = {
  name: 'contended database',
  async run(context) {
    await takeTurns(context, 'contended database', ['driftlock', 'reference', 'better-sqlite3'], async (argument) => ({
      durations: await together('contend-leases', { ...argument, keys: KEYS }),
    }))
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
      results.add('1,000 attestations at once', candidate, Math.min(...durations), 'ms')
      results.add('1,000 attestations at once: recorded', candidate, fewest, '')
      advance()
    }
  },
}

export const contention = [fileLock, leases, attestations]

/**
 * @param {import('./suite.mjs').Context} context
 * @param {string} name
 * @param {string[]} candidates
 * @param {(argument: {candidate: string, folder: string, duration: number}) => Promise<{durations: number[][], lost?: number}>} compete
 * gives the durations of each process
 */
async function takeTurns({ results, quick, advance }, name, candidates, compete) {
  const duration = quick ? 500 : 3000
  /** @type {Map<string, ReturnType<typeof describe>[]>} */
  const rounds = new Map(candidates.map((candidate) => [candidate, []]))
  for (let round = 0; round < ROUNDS; round++) {
    for (const [candidate, found] of rounds) {
      const folder = makeFolder()
      const { durations, lost } = await compete({ candidate, folder, duration })
      found.push({ ...describe(durations, duration), lost })
      remove(folder)
      advance()
    }
  }
  for (const [candidate, found] of rounds) {
    const usual = found.toSorted((a, b) => a.throughput - b.throughput)[Math.floor(ROUNDS / 2)]
    results.add(name, candidate, usual.throughput, '/s')
    results.add(`${name}: p50`, candidate, usual.p50, 'ms')
    results.add(`${name}: p99`, candidate, usual.p99, 'ms')
    results.add(`${name}: max`, candidate, usual.max, 'ms')
    results.add(`${name}: slowest process by mean`, candidate, usual.fairness, '')
    const lost = found.reduce((sum, one) => sum + (one.lost ?? 0), 0)
    if (usual.lost !== undefined) results.add(`${name}: updates lost`, candidate, lost, '')
  }
}

/**
 * @param {number[][]} durations by process
 * @param {number} milliseconds
 * @returns {{throughput: number, p50: number, p99: number, max: number, fairness: number, lost?: number}}
 */
function describe(durations, milliseconds) {
  const counts = durations.map((list) => list.length)
  const total = counts.reduce((sum, count) => sum + count, 0)
  const { p50, p99, max } = summarize(durations.flat())
  const fairness = Math.min(...counts) / (total / counts.length)
  return { throughput: (total / milliseconds) * 1000, p50, p99, max, fairness }
}

/**
 * @param {string} job
 * @param {object} argument
 * @returns {Promise<number[][]>} durations, by process
 */
function together(job, argument) {
  return runTogether(job, Array(PROCESSES).fill(argument))
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
