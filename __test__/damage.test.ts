import {
  appendFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { describe, expect, test } from 'vitest'
import {
  AttestationError,
  LeaseError,
  LedgerError,
  PhaseLeaseManager,
  PhaseLedger,
  PromptAttestationManager,
} from '../index.js'
import { promptHash } from './helpers/hashes.js'
import { INTERNAL, makeSpec } from './helpers/shapes.js'
import {
  attestationsPath,
  baselinesPath,
  databasePath,
  ledgerPath,
  makeWorkspace,
  openLeases,
  processPath,
  readBaselines,
  readLines,
  updatesPath,
} from './helpers/workspace.js'

const changed = makeSpec({ contextSummary: 'other' })
const damagedFiles = (root: string) => readdirSync(processPath(root)).filter((name) => name.includes('.damaged-'))

/** A line of more than 64 MiB is no record. `npm run test:faults` takes a gigabyte. */
const LONG_LINE = process.env.DRIFTLOCK_FAULTS === 'long' ? 1 << 30 : 80 << 20

const DAMAGE: [string, string][] = [
  ['a torn last line', '{"task_id":"TASK-1","pha'],
  ['a line of garbage', 'not JSON at all\n'],
  ['NUL bytes', `${'\u0000'.repeat(5000)}\n`],
  ['NUL bytes without an end', '\u0000'.repeat(5000)],
  ['half of a UTF-8 sequence', '{"task_id":"\u00c3'],
]

describe('a damaged journal', () => {
  test.each(DAMAGE)('%s: the attestations before and after it count, and it is said', async (_, damage) => {
    const root = makeWorkspace()
    const manager = new PromptAttestationManager(root)
    await manager.attest(makeSpec())
    appendFileSync(attestationsPath(root), damage, 'latin1')
    for (const reader of [manager, new PromptAttestationManager(root)]) {
      expect(await reader.getAttestationHistory('TASK-1')).toHaveLength(1)
      const { totalAttestations, damagedLines } = await reader.getDriftStats()
      expect([totalAttestations, damagedLines]).toEqual([1, damage.endsWith('\n') ? 1 : undefined])
    }
    expect((await manager.attest(changed)).hasDrift).toBe(true)
    expect(await manager.getAttestationHistory('TASK-1')).toHaveLength(2)
    const kept = damagedFiles(root).map((name) => readFileSync(processPath(root, name), 'latin1'))
    expect(kept).toEqual(damage.endsWith('\n') ? [] : [damage])
  })

  test.each(DAMAGE)(
    '%s: the ledger goes on, and its chain from readable entry to readable entry',
    async (_, damage) => {
      const root = makeWorkspace()
      const ledger = new PhaseLedger(root)
      const first = await ledger.appendTransition('T', null, 'PLAN', [], true)
      appendFileSync(ledgerPath(root), damage, 'latin1')
      const second = await new PhaseLedger(root).appendTransition('T', 'PLAN', 'SPEC', [], true)
      expect(second.previous_hash).toBe(first.entry_hash)
      expect(await ledger.getTaskHistory('T')).toEqual([first, second])
      const isLeft = damage.endsWith('\n')
      expect(await ledger.getStats()).toMatchObject({ totalEntries: 2, ...(isLeft && { damagedLines: 1 }) })
      expect((await ledger.verify()).valid).toBe(!isLeft)
      expect(damagedFiles(root)).toHaveLength(isLeft ? 0 : 1)
    },
  )

  test.each([
    ['with an end', true],
    ['without one', false],
  ])(
    'a line that is longer than any record, %s',
    async (_, hasEnd) => {
      const root = makeWorkspace()
      const ledger = new PhaseLedger(root)
      const prompts = new PromptAttestationManager(root)
      const first = await ledger.appendTransition('T', null, 'PLAN', [], true)
      await prompts.attest(makeSpec())
      const before = process.memoryUsage().rss
      for (const path of [ledgerPath(root), attestationsPath(root)]) {
        truncateSync(path, LONG_LINE)
        if (hasEnd) appendFileSync(path, '\n')
      }
      expect(await prompts.getDriftStats()).toMatchObject({ totalAttestations: 1 })
      expect((await prompts.attest(changed)).hasDrift).toBe(true)
      expect((await ledger.appendTransition('T', 'PLAN', 'SPEC', [], true)).previous_hash).toBe(first.entry_hash)
      expect(await ledger.getStats()).toMatchObject({ totalEntries: 2, ...(hasEnd && { damagedLines: 1 }) })
      expect(await prompts.getAttestationHistory('TASK-1')).toHaveLength(2)
      expect(process.memoryUsage().rss - before).toBeLessThan(500 << 20)
      // Zeros that were put aside take no space.
      const kept = damagedFiles(root).map((name) => statSync(processPath(root, name)))
      expect(kept).toHaveLength(hasEnd ? 0 : 2)
      for (const { blocks } of kept) expect(blocks * 512).toBeLessThan(1 << 20)
    },
    120_000,
  )

  test('a folder in its place: nothing is made up, and it is named', async () => {
    const root = makeWorkspace()
    mkdirSync(ledgerPath(root), { recursive: true })
    mkdirSync(updatesPath(root))
    const [ledger, prompts] = [new PhaseLedger(root), new PromptAttestationManager(root)]
    for (const [call, kind, name] of [
      [() => ledger.appendTransition('T', null, 'PLAN', [], true), LedgerError, 'ledger.jsonl'],
      [() => prompts.initialize(), AttestationError, 'prompt_baseline_updates.jsonl'],
      [() => prompts.resetBaseline('T', 'PLAN', 'h'), AttestationError, 'prompt_baseline_updates.jsonl'],
    ] as const) {
      const error = await call().then(
        () => undefined,
        (error: unknown) => error,
      )
      expect(error).toBeInstanceOf(kind)
      expect(error).toMatchObject({ code: 'IO', message: expect.stringContaining(name) })
    }
    rmSync(ledgerPath(root), { recursive: true })
    expect((await ledger.appendTransition('T', null, 'PLAN', [], true)).previous_hash).toBe('genesis')
  })
})

describe('damaged baselines', () => {
  test('of many, those that are whole in the file or known to the log still show drift', async () => {
    const root = makeWorkspace()
    const manager = new PromptAttestationManager(root)
    await Promise.all(Array.from({ length: 300 }, (_, i) => manager.attest(makeSpec({ taskId: `T${i}` }))))
    // A page in the middle that never reached the disk, and an end that didn't either.
    const bytes = readFileSync(baselinesPath(root))
    bytes.fill(0, 8192, 12288)
    writeFileSync(baselinesPath(root), bytes.subarray(0, bytes.length - 4096))
    const fresh = new PromptAttestationManager(root)
    const answers = await Promise.all(
      Array.from({ length: 300 }, (_, i) => fresh.attest(makeSpec({ taskId: `T${i}`, contextSummary: 'other' }))),
    )
    expect(answers.filter(({ hasDrift, error }) => !hasDrift || error)).toEqual([])
    expect(Object.keys(readBaselines(root))).toHaveLength(300)
    expect(damagedFiles(root)).toHaveLength(1)
  })

  test('an empty file is mended from the logs, resets included', async () => {
    const root = makeWorkspace()
    const manager = new PromptAttestationManager(root)
    await manager.attest(makeSpec())
    await manager.attest(makeSpec({ taskId: 'RESET' }))
    await manager.resetBaseline('RESET', 'IMPLEMENT', promptHash({ ...changed, taskId: 'RESET' }))
    writeFileSync(baselinesPath(root), '')
    expect((await manager.attest(changed)).hasDrift).toBe(true)
    expect(await manager.attest({ ...changed, taskId: 'RESET' })).toMatchObject({
      hasDrift: false,
      baselineHash: promptHash({ ...changed, taskId: 'RESET' }),
    })
    expect(readBaselines(root)['RESET:IMPLEMENT'].version).toBe(2)
    expect(readLines(attestationsPath(root))).toHaveLength(4)
  })
})

describe('a damaged database', () => {
  const refused = (root: string): unknown => {
    try {
      new PhaseLeaseManager(root).close()
    } catch (error) {
      return error
    }
    return undefined
  }

  test.each<[string, Buffer]>([
    ['garbage', Buffer.from('this is no database '.repeat(500))],
    [
      'a database’s beginning and garbage',
      Buffer.concat([Buffer.from('SQLite format 3\u0000'), Buffer.alloc(8000, 7)]),
    ],
  ])('%s: left as it is, with an error that says so', (_, content) => {
    const root = makeWorkspace()
    mkdirSync(join(root, 'state'))
    writeFileSync(databasePath(root), content)
    const error = refused(root)
    expect(error).toBeInstanceOf(LeaseError)
    expect(error).toMatchObject({ code: 'DATABASE', message: expect.stringContaining(databasePath(root)) })
    expect(readFileSync(databasePath(root))).toEqual(content)
  })

  test('a table of this name that belongs to somebody else is left alone', () => {
    const root = makeWorkspace()
    mkdirSync(join(root, 'state'))
    const db = new Database(databasePath(root))
    db.exec("CREATE TABLE phase_leases (tenant TEXT, flat TEXT); INSERT INTO phase_leases VALUES ('a', 'b')")
    db.close()
    expect(refused(root)).toMatchObject({
      code: 'DATABASE',
      message: expect.stringMatching(/phase_leases.*left as it is/),
    })
    const after = new Database(databasePath(root))
    expect(after.prepare('SELECT * FROM phase_leases').all()).toEqual([{ tenant: 'a', flat: 'b' }])
    expect(after.prepare("SELECT name FROM sqlite_schema WHERE name LIKE 'phase_lease%'").all()).toHaveLength(1)
    after.close()
  })

  test('a write-ahead log without its database is not taken for this one’s', async () => {
    const root = makeWorkspace()
    const first = openLeases(root, { agentId: 'first' })
    await first.acquireLease('T', 'PLAN')
    const log = readFileSync(`${databasePath(root)}-wal`)
    first.close()
    for (const suffix of ['', '-wal', '-shm']) rmSync(databasePath(root) + suffix, { force: true })
    writeFileSync(`${databasePath(root)}-wal`, log)
    const second = openLeases(root, { agentId: 'second' })
    expect((await second.acquireLease('T', 'SPEC')).acquired).toBe(true)
    expect(second.holdsLease('T', 'SPEC')).toBe(true)
  })

  test('removed while it is open: calls say so and make nothing up', async () => {
    const root = makeWorkspace()
    const leases = openLeases(root)
    await leases.acquireLease('T', 'PLAN')
    for (const suffix of ['', '-wal', '-shm']) rmSync(databasePath(root) + suffix, { force: true })
    expect(await leases.acquireLease('T', 'SPEC')).toMatchObject({
      acquired: false,
      reason: expect.stringMatching(INTERNAL),
    })
    expect(leases.holdsLease('T', 'PLAN')).toBe(false)
    expect((await openLeases(root).acquireLease('T', 'PLAN')).acquired).toBe(true)
  })
})
