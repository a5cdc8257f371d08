import { appendFileSync, existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { acquireLock, PhaseLedger, PromptAttestationManager, releaseLock } from '../../index.js'
import { entryHash } from '../helpers/hashes.js'
import { Peer, type PeerContext } from '../helpers/peer.js'
import { makeSpec } from '../helpers/shapes.js'
import { sleep, until } from '../helpers/wait.js'
import {
  attestationsPath,
  baselinesPath,
  type Json,
  ledgerPath,
  makeWorkspace,
  openDatabase,
  openLeases,
  processPath,
} from '../helpers/workspace.js'
import { checkLedger, parseLines } from './records.js'
import { nanoseconds, random, scaled, spread, tell } from './weather.js'

interface Orders {
  root: string
  log: string
  name: string
  spec: ReturnType<typeof makeSpec>
}

/** Does all there is to do in a tight loop, and writes down what was acknowledged before it goes on. */
async function work({ driftlock, require }: PeerContext, { root, log, name, spec }: Orders): Promise<void> {
  const fs = require('node:fs') as typeof import('node:fs')
  const file = fs.openSync(log, 'a')
  const note = (...fields: (string | number)[]): void => {
    fs.writeSync(file, `${JSON.stringify(fields)}\n`)
  }
  const attestations = new driftlock.PromptAttestationManager(root)
  const ledger = new driftlock.PhaseLedger(root)
  const leases = new driftlock.PhaseLeaseManager(root, { agentId: name })
  // Over several pages of memory: a killed process may leave a part of a write.
  const big = 'x'.repeat(30_000)
  const loops = [
    async (i: number) => {
      const task = `${name}-${i}`
      const { currentHash, baselineHash, error } = await attestations.attest({
        ...spec,
        taskId: task,
        personaSummary: i % 7 ? undefined : big,
        personaHash: 'p',
      })
      if (error !== undefined) note('error', error)
      else if (baselineHash !== undefined) note('error', `${task} has a baseline`)
      else note('attested', task, currentHash)
    },
    async (i: number) => {
      // Many at once are one write.
      const tasks = Array.from({ length: 20 }, (_, j) => `${name}-many-${i}-${j}`)
      const answers = await Promise.all(tasks.map((taskId) => attestations.attest({ ...spec, taskId })))
      for (const [j, { currentHash, error }] of answers.entries()) {
        if (error !== undefined) note('error', error)
        else note('attested', tasks[j]!, currentHash)
      }
    },
    async (i: number) => {
      const hash = i.toString(16).padStart(64, '0')
      await attestations.resetBaseline(`${name}-reset`, 'IMPLEMENT', hash, { reason: name })
      note('reset', `${name}-reset`, hash)
    },
    async (i: number) => {
      const { entry_hash } = await ledger.appendTransition(
        `${name}-${i}`,
        null,
        'SPEC',
        i % 7 ? [] : [big, big, big],
        true,
      )
      note('appended', `${name}-${i}`, entry_hash)
    },
    async (i: number) => {
      const { acquired, lease, reason } = await leases.acquireLease(`${name}-${i}`, 'SPEC')
      if (acquired) note('acquired', `${name}-${i}`, lease?.fencing_token ?? 0)
      else note('error', reason ?? '')
      if (i % 2) {
        if (await leases.releaseLease(`${name}-${i}`, 'SPEC')) note('released', `${name}-${i}`)
        else note('error', 'not released')
      }
    },
    async () => {
      await driftlock.withFileLock(
        `${root}/a.lock`,
        () => {
          // Twelve bytes in one write: never torn, but lost by whoever gets in between.
          const number = Number(fs.readFileSync(`${root}/number`, 'utf8'))
          const counter = fs.openSync(`${root}/number`, 'r+')
          fs.writeSync(counter, String(number + 1).padStart(12), 0)
          fs.closeSync(counter)
          note('incremented', number + 1)
        },
        { timeout: 20_000, maxRetries: 1_000_000 },
      )
    },
  ]
  const failed = (error: unknown): void => note('error', String(error))
  // As a tight loop each, side by side; the event loop gets its turns, so that a kill finds any of them anywhere.
  await Promise.all(
    loops.map(async (loop) => {
      for (let i = 0; ; i++) {
        await loop(i).catch(failed)
        await new Promise((resolve) => setImmediate(resolve))
      }
    }),
  )
}

interface Acknowledged {
  errors: string[]
  attested: Map<string, string>
  reset: Map<string, string>
  appended: Map<string, string>
  acquired: Map<string, number>
  released: Set<string>
  increments: number[]
}

function readAcknowledged(path: string, into: Acknowledged): void {
  const text = existsSync(path) ? readFileSync(path, 'utf8') : ''
  for (const line of text
    .slice(0, text.lastIndexOf('\n') + 1)
    .split('\n')
    .slice(0, -1)) {
    const [kind, what, value] = JSON.parse(line) as [string, string, never]
    if (kind === 'error') into.errors.push(what)
    else if (kind === 'released') into.released.add(what)
    else if (kind === 'incremented') into.increments.push(Number(what))
    else into[kind as 'attested'].set(what, value)
  }
}

/** What was acknowledged and is not there. */
function findLost(root: string, { attested, reset, appended, acquired, released, increments }: Acknowledged): string[] {
  const problems: string[] = []
  const records = new Map(
    (parseLines(attestationsPath(root), problems) as Json[]).map((record) => [record.task_id, record]),
  )
  const baselines = JSON.parse(readFileSync(baselinesPath(root), 'utf8')) as Record<string, Json>
  for (const [task, hash] of attested) {
    if (records.get(task)?.prompt_hash !== hash) problems.push(`the record of ${task} is lost`)
    if (baselines[`${task}:IMPLEMENT`]?.hash !== hash) problems.push(`the baseline of ${task} is lost`)
  }
  // The last reset may have been done and not been acknowledged.
  for (const [task, hash] of reset) {
    const found = String(baselines[`${task}:IMPLEMENT`]?.hash)
    if (![0, 1].includes(Number.parseInt(found, 16) - Number.parseInt(hash, 16)))
      problems.push(`the reset of ${task} to ${hash} is lost: ${found}`)
  }
  const entries = new Map((parseLines(ledgerPath(root), problems) as Json[]).map((entry) => [entry.task_id, entry]))
  for (const [task, hash] of appended) {
    const entry = entries.get(task)
    if (entry?.entry_hash !== hash || entryHash(entry) !== hash) problems.push(`the entry of ${task} is lost`)
  }
  const rows = openDatabase(root).prepare('SELECT task_id, fencing_token FROM phase_leases').all() as {
    task_id: string
    fencing_token: number
  }[]
  const tokens = new Map(rows.map(({ task_id, fencing_token }) => [task_id, fencing_token]))
  for (const [task, token] of acquired) {
    if (released.has(task)) {
      if (tokens.has(task)) problems.push(`the release of ${task} is lost`)
    } else if (tokens.get(task) !== token && Number(task.split('-').at(-1)) % 2 === 0) {
      problems.push(`the lease of ${task} is lost`)
    }
  }
  if (new Set(increments).size !== increments.length) problems.push('two had the lock at once')
  if (Math.max(0, ...increments) > Number(readFileSync(join(root, 'number'), 'utf8')))
    problems.push('an increment is lost')
  return problems
}

/** Whether the files can be read as they are, before anybody mends them. */
function whatIsTorn(root: string): string[] {
  const problems: string[] = []
  for (const path of [attestationsPath(root), ledgerPath(root)]) if (existsSync(path)) parseLines(path, problems)
  try {
    if (existsSync(baselinesPath(root))) JSON.parse(readFileSync(baselinesPath(root), 'utf8'))
  } catch {
    problems.push('the baselines are not JSON')
  }
  return problems
}

const fresh = (): Acknowledged => ({
  errors: [],
  attested: new Map(),
  reset: new Map(),
  appended: new Map(),
  acquired: new Map(),
  released: new Set(),
  increments: [],
})

describe('processes killed at random', () => {
  test('leave everything that was acknowledged, and the next one works at once', async () => {
    const rounds = scaled(200, 20)
    const all = fresh()
    const torn = new Map<string, number>()
    const delays: number[] = []
    let root = ''
    for (let round = 0; round < rounds; round++) {
      // From time to time a fresh workspace, for its first moments are a case of their own.
      if (round % 20 === 0) {
        root = makeWorkspace()
        writeFileSync(join(root, 'number'), '0'.padStart(12))
      }
      const peers = await Peer.startMany(3)
      const logs = peers.map((_, i) => join(root, `acknowledged-${round}-${i}`))
      for (const [i, peer] of peers.entries()) {
        peer.run(work, { root, log: logs[i]!, name: `r${round}p${i}`, spec: makeSpec() }).catch(() => {})
      }
      // Some in their first moments, most in full swing.
      if (random(0, 4))
        await until(() => logs.some((log) => existsSync(log) && readFileSync(log).length > 0), 'they work')
      await sleep(random(0, 120))
      await Promise.all(
        peers.map(async (peer) => {
          await sleep(random(0, 10))
          await peer.kill()
        }),
      )
      for (const what of whatIsTorn(root)) {
        const kind = what.replace(root, '').replace(/line \d+/, 'a line')
        torn.set(kind, (torn.get(kind) ?? 0) + 1)
      }

      // The next one, with nothing in memory.
      const start = nanoseconds()
      const leases = openLeases(root, { agentId: `heir-${round}` })
      const attestations = new PromptAttestationManager(root)
      const ledger = new PhaseLedger(root)
      expect(await leases.acquireLease(`heir-${round}`, 'SPEC')).toMatchObject({ acquired: true })
      const first = await attestations.attest(makeSpec({ taskId: `heir-${round}` }))
      expect({ error: first.error, baselineHash: first.baselineHash }).toEqual({
        error: undefined,
        baselineHash: undefined,
      })
      await ledger.appendTransition(`heir-${round}`, null, 'SPEC', [], true)
      expect(await acquireLock(join(root, 'a.lock'), { timeout: 0 })).toBe(true)
      await releaseLock(join(root, 'a.lock'))
      delays.push((nanoseconds() - start) / 1e6)
      leases.close()

      const acknowledged = fresh()
      for (const log of logs) {
        readAcknowledged(log, acknowledged)
        readAcknowledged(log, all)
      }
      expect(acknowledged.errors).toEqual([])
      expect(whatIsTorn(root)).toEqual([])
      expect(findLost(root, acknowledged).slice(0, 20)).toEqual([])
      // All that came before, once the workspace is done with.
      if (round % 20 === 19 || round === rounds - 1) {
        const verified = await ledger.verify()
        expect(verified).toEqual({ valid: true, entries_checked: verified.entries_checked })
        expect(checkLedger(root).slice(0, 20)).toEqual([])
        const total = fresh()
        for (const name of readdirSync(root))
          if (name.startsWith('acknowledged-')) readAcknowledged(join(root, name), total)
        expect(findLost(root, total).slice(0, 20)).toEqual([])
        expect(openDatabase(root).pragma('integrity_check', { simple: true })).toBe('ok')
      }
    }
    const sum = ({ attested, appended, acquired, reset, increments }: Acknowledged): string =>
      `${attested.size} attestations, ${appended.size} entries, ${acquired.size} leases, ${reset.size} reset keys, ${increments.length} locked increments`
    tell(`kills: ${rounds * 3} processes; acknowledged and found: ${sum(all)}`)
    tell(
      `kills: found torn and mended: ${[...torn].map(([what, times]) => `${what} × ${times}`).join(', ') || 'nothing'}`,
    )
    tell(`kills: first four operations of the next process in ms: ${spread(delays)}`)
    // The big lines are in half of the pages of the log; the mended ones are put aside, not lost.
    expect(all.attested.size).toBeGreaterThan(rounds * 10)
    expect(all.increments.length).toBeGreaterThan(rounds)
  })

  test('what is lost is found', async () => {
    const root = makeWorkspace()
    const leases = openLeases(root)
    const { currentHash } = await new PromptAttestationManager(root).attest(makeSpec())
    const { entry_hash } = await new PhaseLedger(root).appendTransition('T', null, 'SPEC', [], true)
    const token = (await leases.acquireLease('T-0', 'SPEC')).lease?.fencing_token ?? 0
    writeFileSync(join(root, 'number'), '1')
    const good = (): Acknowledged => ({
      ...fresh(),
      attested: new Map([['TASK-1', currentHash]]),
      appended: new Map([['T', entry_hash]]),
      acquired: new Map([['T-0', token]]),
      increments: [1],
    })
    expect(findLost(root, good())).toEqual([])
    expect(findLost(root, { ...good(), attested: new Map([['TASK-2', currentHash]]) })).toHaveLength(2)
    expect(findLost(root, { ...good(), appended: new Map([['T', currentHash]]) })).toHaveLength(1)
    expect(findLost(root, { ...good(), acquired: new Map([['T-2', token]]) })).toHaveLength(1)
    expect(findLost(root, { ...good(), released: new Set(['T-0']) })).toHaveLength(1)
    expect(findLost(root, { ...good(), reset: new Map([['TASK-1', 'f'.repeat(64)]]) })).toHaveLength(1)
    expect(findLost(root, { ...good(), increments: [1, 1] })).toHaveLength(1)
    expect(findLost(root, { ...good(), increments: [2] })).toHaveLength(1)
    appendFileSync(ledgerPath(root), '{"half')
    expect(whatIsTorn(root)).toHaveLength(1)
    expect(existsSync(processPath(root))).toBe(true)
  })
})
