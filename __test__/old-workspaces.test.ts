import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { acquireLock, PhaseLedger, PromptAttestationManager, releaseLock, withFileLock } from '../index.js'
import { promptHash } from './helpers/hashes.js'
import { OldLeases, oldWorkspace } from './helpers/old-code.js'
import { HELD, makeSpec, NOT_HELD } from './helpers/shapes.js'
import { until } from './helpers/wait.js'
import {
  attestationsPath,
  ledgerPath,
  makeWorkspace,
  openDatabase,
  openLeases,
  readBaselines,
  readLines,
  updatesPath,
} from './helpers/workspace.js'

describe('an old database', () => {
  test('keeps its live lease', async () => {
    const root = oldWorkspace()
    const manager = openLeases(root, { agentId: 'new-agent' })
    const lease = manager.getLease('OLD-LIVE', 'IMPLEMENT')
    expect(lease).toMatchObject({
      agent_id: 'old-agent',
      acquired_at: '2026-01-01T00:00:00.000Z',
      expires_at: '2099-01-01T00:00:00.000Z',
      renewed_count: 3,
    })
    expect(Number.isSafeInteger(lease?.fencing_token)).toBe(true)
    const refused = await manager.acquireLease('OLD-LIVE', 'IMPLEMENT')
    expect(refused).toMatchObject({ acquired: false, reason: HELD, holder: 'old-agent' })
    expect(refused.expiresIn).toBe(Math.floor((Date.parse('2099-01-01T00:00:00.000Z') - Date.now()) / 1000))
    expect(await manager.renewLease('OLD-LIVE', 'IMPLEMENT')).toMatchObject({ renewed: false, reason: NOT_HELD })
    expect(await manager.releaseLease('OLD-LIVE', 'IMPLEMENT')).toBe(false)
  })

  test('keeps the size of its pages, a new one has smaller ones', () => {
    const sizes = [oldWorkspace(), makeWorkspace()].map((root) => {
      openLeases(root).getLease('OLD-LIVE', 'IMPLEMENT')
      return openDatabase(root).pragma('page_size', { simple: true })
    })
    expect(sizes).toEqual([4096, 2048])
  })

  test('lets its owner go on', async () => {
    const owner = openLeases(oldWorkspace(), { agentId: 'old-agent' })
    const before = owner.getLease('OLD-LIVE', 'IMPLEMENT')
    expect(owner.holdsLease('OLD-LIVE', 'IMPLEMENT')).toBe(true)
    const renewal = await owner.renewLease('OLD-LIVE', 'IMPLEMENT')
    expect(renewal.renewed).toBe(true)
    expect(owner.getLease('OLD-LIVE', 'IMPLEMENT')).toEqual({
      ...before,
      expires_at: renewal.expiresAt,
      renewed_count: 4,
    })
    expect(await owner.releaseLease('OLD-LIVE', 'IMPLEMENT')).toBe(true)
  })

  test('gives its expired lease to whoever asks', async () => {
    const manager = openLeases(oldWorkspace(), { agentId: 'new-agent' })
    expect(manager.holdsLease('OLD-EXPIRED', 'PLAN')).toBe(false)
    const { lease } = await manager.acquireLease('OLD-EXPIRED', 'PLAN')
    expect(lease?.agent_id).toBe('new-agent')
    expect(lease?.fencing_token).toBeGreaterThan(manager.getLease('OLD-LIVE', 'IMPLEMENT')?.fencing_token ?? Infinity)
  })

  test('keeps the tables of the others', async () => {
    const root = oldWorkspace()
    const theirs = 'SELECT * FROM tasks ORDER BY id'
    const before = openDatabase(root).prepare(theirs).all()
    const manager = openLeases(root)
    await manager.acquireLease('T', 'SPEC')
    await manager.releaseLease('T', 'SPEC')
    manager.close()
    const db = openDatabase(root)
    expect(before).toHaveLength(20)
    expect(db.prepare(theirs).all()).toEqual(before)
    expect(db.prepare("SELECT sql FROM sqlite_master WHERE name = 'idx_tasks_status'").pluck().get()).toBe(
      'CREATE INDEX idx_tasks_status ON tasks(status)',
    )
    expect(db.pragma('user_version', { simple: true })).toBe(0)
    expect(db.pragma('journal_mode', { simple: true })).toBe('wal')
    expect(db.pragma('integrity_check', { simple: true })).toBe('ok')
  })
})

describe.each([
  ['an old database', oldWorkspace],
  ['a new database', makeWorkspace],
])('an old process beside the manager on %s', (_, workspace) => {
  test('each respects the other', async () => {
    const root = workspace()
    const manager = openLeases(root, { agentId: 'new' })
    const old = new OldLeases(root, 'old')
    expect((await manager.acquireLease('A', 'SPEC')).acquired).toBe(true)
    expect(old.acquire('A', 'SPEC')).toEqual({ acquired: false, holder: 'new' })
    expect(old.acquire('B', 'SPEC')).toEqual({ acquired: true })
    expect(await manager.acquireLease('B', 'SPEC')).toMatchObject({ acquired: false, reason: HELD, holder: 'old' })
    expect(old.renew('B', 'SPEC')).toBe(true)
    expect(manager.getLease('B', 'SPEC')).toMatchObject({ agent_id: 'old', renewed_count: 1 })
    expect(await manager.releaseLease('A', 'SPEC')).toBe(true)
    expect(old.acquire('A', 'SPEC')).toEqual({ acquired: true })
    expect(old.release('B', 'SPEC')).toBe(true)
    expect((await manager.acquireLease('B', 'SPEC')).acquired).toBe(true)
    expect(await manager.renewLease('A', 'SPEC')).toMatchObject({ renewed: false, reason: NOT_HELD })
    expect(openDatabase(root).pragma('integrity_check', { simple: true })).toBe('ok')
  })

  test('its rows get a fencing token too', async () => {
    const root = workspace()
    const manager = openLeases(root, { agentId: 'new' })
    const old = new OldLeases(root, 'old')
    const tokens: number[] = []
    for (let i = 0; i < 3; i++) {
      tokens.push((await manager.acquireLease('T', 'SPEC')).lease?.fencing_token ?? 0)
      await manager.releaseLease('T', 'SPEC')
      old.acquire('T', 'SPEC')
      tokens.push(manager.getLease('T', 'SPEC')?.fencing_token ?? 0)
      old.release('T', 'SPEC')
    }
    expect(tokens).toEqual([...new Set(tokens)].sort((a, b) => a - b))
    expect(tokens[0]).toBeGreaterThan(0)
  })

  test('an expired lease goes from either to either', async () => {
    const root = workspace()
    const manager = openLeases(root, { agentId: 'new', leaseDuration: 0.1 })
    const old = new OldLeases(root, 'old', 0.1)
    await manager.acquireLease('A', 'SPEC')
    old.acquire('B', 'SPEC')
    await until(() => old.acquire('A', 'SPEC').acquired, 'the old process gets A')
    const { lease } = await until(async () => {
      const result = await manager.acquireLease('B', 'SPEC')
      return result.acquired ? result : null
    }, 'the manager gets B')
    expect(lease?.agent_id).toBe('new')
  })

  test('the old process was there first and opens the database again later', async () => {
    const root = workspace()
    openLeases(root).close()
    const early = new OldLeases(root, 'old')
    early.acquire('A', 'SPEC')
    const manager = openLeases(root, { agentId: 'new' })
    const late = new OldLeases(root, 'late')
    expect(late.acquire('A', 'SPEC')).toEqual({ acquired: false, holder: 'old' })
    expect(await manager.acquireLease('A', 'SPEC')).toMatchObject({ acquired: false, holder: 'old' })
    expect(late.acquire('B', 'PLAN')).toEqual({ acquired: true })
    expect(manager.getLease('B', 'PLAN')?.agent_id).toBe('late')
  })
})

describe('old attestations', () => {
  const bare = makeSpec({
    taskId: 'OLD-BARE',
    phase: 'SPEC',
    requirements: ['r1', 'r2'],
    qualityGates: ['build'],
    artifacts: ['a.ts'],
    contextSummary: 'context of OLD-BARE',
  })
  const object = {
    ...bare,
    taskId: 'OLD-OBJECT',
    phase: 'VERIFY' as const,
    contextSummary: 'context of OLD-OBJECT',
    personaHash: 'a'.repeat(64),
  }

  test('a baseline that is a bare hash counts', async () => {
    const root = oldWorkspace()
    const manager = new PromptAttestationManager(root)
    await manager.initialize()
    expect(await manager.attest(bare)).toMatchObject({
      hasDrift: false,
      baselineHash: promptHash(bare),
      severity: 'none',
    })
    const drift = await manager.attest({ ...bare, contextSummary: 'other' })
    expect(drift).toMatchObject({ hasDrift: true, baselineHash: promptHash(bare), severity: 'low' })
    expect(readLines(attestationsPath(root)).at(-1)).toMatchObject({
      baseline_hash: promptHash(bare),
      baseline_version: 1,
    })
  })

  test('a baseline that is an object counts, with its version and persona', async () => {
    const root = oldWorkspace()
    const manager = new PromptAttestationManager(root)
    await manager.initialize()
    expect(await manager.attest(object)).toMatchObject({
      hasDrift: false,
      personaDrift: false,
      baselineHash: promptHash(object),
    })
    const drift = await manager.attest({ ...object, personaHash: 'b'.repeat(64) })
    expect(drift).toMatchObject({ hasDrift: true, severity: 'high', personaDrift: true })
    expect(readLines(attestationsPath(root)).at(-1)).toMatchObject({ baseline_version: 4, persona_drift: true })
  })

  test('initialize() and first attestations keep what is there', async () => {
    const root = oldWorkspace()
    const before = readBaselines(root)
    const records = readFileSync(attestationsPath(root), 'utf8')
    const manager = new PromptAttestationManager(root)
    await manager.initialize()
    expect(readBaselines(root)).toEqual(before)
    await manager.attest(makeSpec())
    expect(readBaselines(root)).toMatchObject({
      ...before,
      'TASK-1:IMPLEMENT': { hash: promptHash(makeSpec()), version: 1 },
    })
    expect(readFileSync(attestationsPath(root), 'utf8').startsWith(records)).toBe(true)
  })

  test('reset goes on from the version that is there', async () => {
    const root = oldWorkspace()
    const manager = new PromptAttestationManager(root)
    await manager.initialize()
    await manager.resetBaseline('OLD-BARE', 'SPEC', 'e'.repeat(64))
    await manager.resetBaseline('epic:7:OLD-COLON', 'PLAN', 'f'.repeat(64), { reason: 'new' })
    const baselines = readBaselines(root)
    expect(baselines['OLD-BARE:SPEC']).toMatchObject({ hash: 'e'.repeat(64), version: 2 })
    expect(baselines['epic:7:OLD-COLON:PLAN']).toMatchObject({ hash: 'f'.repeat(64), version: 3, reason: 'new' })
    expect(readLines(updatesPath(root)).map(({ taskId, phase, version }) => [taskId, phase, version])).toEqual([
      ['OLD-BARE', 'SPEC', 2],
      ['epic:7:OLD-COLON', 'PLAN', 3],
    ])
  })

  test('old records are found and counted', async () => {
    const root = oldWorkspace()
    const manager = new PromptAttestationManager(root)
    const history = await manager.getAttestationHistory('OLD-BARE')
    expect(history).toEqual(readLines(attestationsPath(root)).slice(0, 2))
    expect(await manager.getDriftStats()).toEqual({
      totalAttestations: 3,
      driftDetections: 1,
      driftRate: 1 / 3,
      severityCounts: { none: 2, unknown: 1 },
    })
  })
})

describe('an old ledger', () => {
  test('is valid and goes on', async () => {
    const root = oldWorkspace()
    const ledger = new PhaseLedger(root)
    await ledger.initialize()
    expect(await ledger.exists()).toBe(true)
    expect(await ledger.verify()).toMatchObject({ valid: true, entries_checked: 4 })
    const last = readLines(ledgerPath(root)).at(-1)
    const entry = await ledger.appendTransition('OLD-1', 'PLAN', 'IMPLEMENT', [], true)
    expect(entry.previous_hash).toBe(last.entry_hash)
    expect(await ledger.verify()).toMatchObject({ valid: true, entries_checked: 5 })
    expect(await ledger.getCurrentPhase('OLD-1')).toBe('IMPLEMENT')
    expect((await ledger.getTaskHistory('OLD-1')).map(({ to_phase }) => to_phase)).toEqual([
      'STRATEGIZE',
      'SPEC',
      'PLAN',
      'IMPLEMENT',
    ])
    expect(await ledger.getStats()).toMatchObject({
      totalEntries: 5,
      uniqueTasks: 2,
      oldestEntry: '2026-01-01T00:00:00.000Z',
      lastHash: entry.entry_hash,
    })
  })
})

describe('a lock file that the old code left', () => {
  test('never blocks, however fresh it is', async () => {
    const path = join(oldWorkspace(), 'state', 'left-over.lock')
    expect(statSync(path).size).toBeGreaterThan(0)
    expect(await acquireLock(path, { timeout: 0 })).toBe(true)
    expect(JSON.parse(readFileSync(path, 'utf8'))).toMatchObject({ pid: process.pid })
    await releaseLock(path)
    expect(await withFileLock(path, () => Promise.resolve('in'))).toBe('in')
  })
})
