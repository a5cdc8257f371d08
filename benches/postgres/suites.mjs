// What is measured.

import { setTimeout as sleep } from 'node:timers/promises'
import { summarize } from '../summary.mjs'
import { runAgents, start } from './agents.mjs'
import { kindsOf, runPgbench } from './pgbench.mjs'

/**
 * @typedef {object} Bench
 * @property {import('./server.mjs').Server} server
 * @property {string} program
 * @property {boolean} isShort
 * @property {import('./results.mjs').Results} results
 */

/** Taken in turns, so that what else the machine does hits both; the quietest of each counts. */
const ROUNDS = 3
/** By what they are called in reports. */
export const OPERATIONS = {
  'acquire-and-release': 'acquire + release a lease',
  renew: 'renew a lease',
  attest: 'attest',
  append: 'append to the ledger',
}
const CLIENTS = [1, 64]

let runs = 0
/** Sets the tasks of a run apart from those of others. */
const newName = () => `run ${runs++}`

/**
 * @param {Bench} bench
 * @param {{operation: string, agents: number, seconds: number, schema?: string}} what
 */
async function throughput({ server, program }, { operation, agents, seconds, schema = 'driftlock' }) {
  const order = { url: server.url(schema), folder: server.folder, operation, name: newName(), agents, seconds }
  return summary(await runAgents(program, order), seconds)
}

/**
 * @param {number[]} durations
 * @param {number} seconds
 */
function summary(durations, seconds) {
  const { p50, p99 } = summarize(durations)
  return { perSecond: durations.length / seconds, p50, p99 }
}

/** Each operation, by one agent and by 64, beside plain statements. @param {Bench} bench */
export async function operations(bench) {
  const { server, results, isShort } = bench
  const seconds = isShort ? 1 : 3
  // The tables that pgbench writes.
  for (const operation of Object.keys(OPERATIONS)) {
    await throughput(bench, { operation, agents: 1, seconds: 0, schema: 'plain' })
  }
  for (const operation of Object.keys(OPERATIONS)) {
    for (const clients of CLIENTS) {
      /** @type {Summary[]} */
      const own = []
      let [cpuMs, walBytes] = [0, 0]
      const statements = kindsOf(operation).map((kind) => ({ kind, summaries: /** @type {Summary[]} */ ([]) }))
      for (let round = 0; round < (isShort ? 1 : ROUNDS); round++) {
        const before = server.use()
        own.push(await throughput(bench, { operation, agents: clients, seconds }))
        const after = server.use()
        cpuMs += after.cpuMs - before.cpuMs
        walBytes += after.walBytes - before.walBytes
        for (const { kind, summaries } of statements) {
          const durations = runPgbench(server, { operation, kind, schema: 'plain', clients, seconds })
          summaries.push(summary(durations, seconds))
        }
      }
      const floors = Object.fromEntries(statements.map(({ kind, summaries }) => [kind, quietest(summaries)]))
      results.operations.push({ operation, clients, driftlock: quietest(own), ...floors })
      if (clients === 1) continue
      const count = own.reduce((sum, { perSecond }) => sum + perSecond * seconds, 0)
      const name = OPERATIONS[/** @type {keyof typeof OPERATIONS} */ (operation)]
      results.add(`${name}: time of the server's processors`, cpuMs / count, 'ms')
      results.add(`${name}: bytes of the log`, walBytes / count, '')
    }
  }
}

/** @typedef {ReturnType<typeof summary>} Summary */

/** @param {Summary[]} summaries */
const quietest = (summaries) => summaries.reduce((one, other) => (other.perSecond > one.perSecond ? other : one))

/** What those who wait cost while nothing happens, and how long a hand-over takes among them. @param {Bench} bench */
export async function waiters({ server, program, results, isShort }) {
  const seconds = isShort ? 3 : 10
  const common = { url: server.url('waiters'), folder: server.folder }
  for (const agents of [0, 1000]) {
    const holder = start(program, { ...common, operation: 'hold', name: 'holder', agents: 1, seconds: seconds + 4 })
    await holder.ready
    const waiting = [1, 2].map((n) =>
      start(program, {
        ...common,
        operation: 'wait',
        name: `waiters ${n}`,
        agents: agents / 2,
        seconds: 2 * seconds + 4,
      }),
    )
    await Promise.all(waiting.map(({ ready }) => ready))
    for (const process of [holder, ...waiting]) process.go()
    await sleep(2000)
    const before = server.use()
    await sleep(seconds * 1000)
    const after = server.use()
    results.add(`${agents} waiters: transactions`, (after.transactions - before.transactions) / seconds, '/s')
    results.add(`${agents} waiters: the server, in % of a core`, (after.cpuMs - before.cpuMs) / seconds / 10, '')
    const turns = (await Promise.all(waiting.map(({ answer }) => answer))).flatMap(({ turns }) => turns)
    await holder.answer
    if (agents === 0) continue
    turns.sort(([one], [other]) => one - other)
    const waits = turns.slice(1).map(([granted], i) => (granted - /** @type {any} */ (turns[i])[1]) / 1e6)
    if (waits.length < 10) throw new Error(`only ${waits.length} of ${agents} waiters had their turn`)
    const { p50, p99 } = summarize(waits)
    results.add(`${agents} waiters: hand-over, p50`, p50, 'ms')
    results.add(`${agents} waiters: hand-over, p99`, p99, 'ms')
    results.add(`${agents} waiters: hand-overs measured`, waits.length, '')
  }
}

/** Acquire and release among ever more leases. @param {Bench} bench */
export async function leasesGrow(bench) {
  const sizes = bench.isShort ? [0, 10_000] : [0, 10_000, 100_000, 1_000_000]
  await grow(
    bench,
    'acquire-and-release',
    sizes,
    (from, to) => `
    INSERT INTO grown.leases (key, task, phase, lock, lease_id, agent, token, acquired_at, expires_at, process)
    SELECT sha256(int8send(n)), convert_to('FILLED-' || n, 'UTF8'), 'IMPLEMENT', n, gen_random_uuid(),
      convert_to('agent ' || n % 100000, 'UTF8'), nextval('grown.tokens'), now(), now() + interval '1 day',
      '123-abcdefabcdef@host' FROM generate_series(${from + 1}::bigint, ${to}) AS n`,
  )
}

/** Attestations among ever more records. @param {Bench} bench @param {boolean} isLarge */
export async function attestationsGrow(bench, isLarge) {
  const sizes = bench.isShort ? [0, 10_000] : [0, 100_000, 1_000_000, ...(isLarge ? [10_000_000] : [])]
  const tasks = (/** @type {number} */ records) => Math.floor(records / 10)
  await grow(
    bench,
    'attest',
    sizes,
    (from, to) => `
    INSERT INTO grown.baselines (key, task, phase, hash, version, updated_at)
    SELECT sha256(int8send(n)), convert_to('FILLED-' || n, 'UTF8'), 'IMPLEMENT', repeat('0', 64)::bytea, 1,
      '2026-01-01T00:00:00.000Z' FROM generate_series(${tasks(from) + 1}::bigint, ${tasks(to)}) AS n;
    INSERT INTO grown.attestations (id, at, task_key, baseline_version, is_first, task, phase, prompt_hash)
    SELECT (lpad(to_hex(n), 32, '0'))::uuid, '2026-01-01'::timestamptz + n * interval '1 s',
      hashtextextended('FILLED-' || n / 10, 0), 1, false, convert_to('FILLED-' || n / 10, 'UTF8'), 'IMPLEMENT',
      repeat('0', 64)::bytea FROM generate_series(${from + 1}::bigint, ${to}) AS n`,
  )
}

/**
 * @param {Bench} bench
 * @param {string} operation
 * @param {number[]} sizes
 * @param {(from: number, to: number) => string} fill
 */
async function grow(bench, operation, sizes, fill) {
  const { server, results, isShort } = bench
  const seconds = isShort ? 1 : 3
  await throughput(bench, { operation, agents: 1, seconds: 0, schema: 'grown' })
  let size = 0
  for (const to of sizes) {
    if (to > size) server.execute(fill(size, to))
    size = to
    // What filling has left to be written and cleaned up is not to be done in the time that is measured.
    server.execute('VACUUM ANALYZE')
    server.execute('CHECKPOINT')
    const found = []
    for (let round = 0; round < (isShort ? 1 : ROUNDS); round++) {
      found.push(await throughput(bench, { operation, agents: 8, seconds, schema: 'grown' }))
    }
    results.growth.push({ operation, size, driftlock: quietest(found) })
  }
}
