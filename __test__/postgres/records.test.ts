import { readdirSync } from 'node:fs'
import { inspect } from 'node:util'
import { afterEach, describe, expect, test } from 'vitest'
import {
  AttestationError,
  LedgerError,
  type LogEvent,
  PhaseLedger,
  PromptAttestationManager,
  setLogger,
} from '../../index.js'
import { acquire, failure, takeOver } from '../helpers/fences.js'
import { entryHash, promptHash } from '../helpers/hashes.js'
import { PASSWORD } from '../helpers/postgres.js'
import { makeSpec } from '../helpers/shapes.js'
import { makeWorkspace, openLeases } from '../helpers/workspace.js'

afterEach(() => setLogger(null))

describe('attestations', () => {
  test('answer as those in files do', async () => {
    const root = makeWorkspace()
    const [one, other] = [new PromptAttestationManager(root), new PromptAttestationManager(makeWorkspace())]
    await one.initialize()
    const spec = makeSpec()
    expect(await one.attest(spec)).toMatchObject({ hasDrift: false, severity: 'none', currentHash: promptHash(spec) })
    const changed = makeSpec({ requirements: ['else'] })
    const drift = await other.attest(changed)
    expect(drift).toMatchObject({ hasDrift: true, baselineHash: promptHash(spec), currentHash: promptHash(changed) })
    await other.resetBaseline(spec.taskId, spec.phase, drift.currentHash, { updatedBy: 'ann' })
    expect(await one.attest(changed)).toMatchObject({ hasDrift: false, baselineHash: drift.currentHash })
    const history = await one.getAttestationHistory(spec.taskId)
    expect(history.map(({ drift_detected, baseline_version }) => [drift_detected, baseline_version])).toEqual([
      [false, 1],
      [true, 1],
      [false, 2],
    ])
    expect(await other.getDriftStats()).toMatchObject({ totalAttestations: 3, driftDetections: 1 })
    expect(readdirSync(root)).toEqual([])
  })

  test('that are asked for together are all kept', async () => {
    const prompts = new PromptAttestationManager(makeWorkspace())
    const answers = await Promise.all(
      Array.from({ length: 600 }, (_, i) => prompts.attest(makeSpec({ taskId: `T${i % 7}` }))),
    )
    expect(answers.filter(({ error }) => error)).toEqual([])
    expect((await prompts.getDriftStats()).totalAttestations).toBe(600)
  })

  test('never reject: what went wrong is in the answer and in the log, without credentials', async () => {
    const events: LogEvent[] = []
    setLogger((event) => events.push(event))
    const store = (process.env.DRIFTLOCK_STORE ?? '').replace(PASSWORD, 'wr0ng')
    const prompts = new PromptAttestationManager(makeWorkspace(), { store })
    const answer = await prompts.attest(makeSpec())
    expect(answer).toMatchObject({ hasDrift: false, errorCode: 'SERVER', currentHash: promptHash(makeSpec()) })
    expect(inspect([answer, events])).not.toMatch(/wr0ng|postgres@/)
    const error = await failure(prompts.getDriftStats())
    expect(error).toBeInstanceOf(AttestationError)
    expect(error?.message).toContain('check user and password')
  })
})

describe('the ledger', () => {
  test('is one chain for all, and answers as the one in a file does', async () => {
    const root = makeWorkspace()
    const ledgers = [new PhaseLedger(root), new PhaseLedger(makeWorkspace())] as const
    await ledgers[0].initialize()
    expect(await ledgers[0].exists()).toBe(false)
    const entries = await Promise.all(
      Array.from({ length: 300 }, (_, i) =>
        ledgers[i % 2 === 0 ? 0 : 1].appendTransition(`T${i % 5}`, null, 'SPEC', [`${i}`], true),
      ),
    )
    for (const entry of entries) expect(entry.entry_hash).toBe(entryHash(entry))
    const [ledger] = ledgers
    expect(await ledger.exists()).toBe(true)
    expect(await ledger.verify()).toEqual({ valid: true, entries_checked: 300 })
    expect(await ledger.getTaskHistory('T3')).toHaveLength(60)
    expect(await ledger.getCurrentPhase('T3')).toBe('SPEC')
    expect(await ledger.getCurrentPhase('none')).toBeNull()
    expect(await ledger.getStats()).toMatchObject({ totalEntries: 300, uniqueTasks: 5 })
    expect(readdirSync(root)).toEqual([])
  })

  test('rejects what can’t be written, with what to do', async () => {
    const store = (process.env.DRIFTLOCK_STORE ?? '').replace('/postgres?', '/nowhere?')
    const ledger = new PhaseLedger(makeWorkspace(), { store })
    const error = await failure(ledger.appendTransition('T', null, 'SPEC', [], true))
    expect(error).toBeInstanceOf(LedgerError)
    expect(error).toMatchObject({ code: 'SERVER', message: expect.stringContaining('create the database') })
    setLogger(() => {})
    expect(await ledger.verify()).toMatchObject({ valid: false, entries_checked: 0, error: expect.any(String) })
    expect(await ledger.getCurrentPhase('T')).toBeNull()
  })
})

test('a fence of the same server is refused in the transaction of the write; one of a workspace guards it too', async () => {
  const root = makeWorkspace()
  const [ledger, prompts] = [new PhaseLedger(root), new PromptAttestationManager(root)]
  for (const store of [undefined, 'sqlite']) {
    const fence = await acquire(openLeases(root, { store }))
    await ledger.appendTransition('TASK-1', null, 'IMPLEMENT', [], true, { fence })
    if (store === 'sqlite')
      await openLeases(root, { store }).forceRelease('TASK-1', 'IMPLEMENT', { by: 'op', reason: 'test' })
    else await takeOver(root)
    for (const write of [
      () => ledger.appendTransition('TASK-1', null, 'IMPLEMENT', [], true, { fence }),
      () => prompts.attest(makeSpec(), { fence }),
    ]) {
      expect(await failure(write())).toMatchObject({ code: 'FENCED' })
    }
  }
  expect((await ledger.getStats()).totalEntries).toBe(2)
  expect((await prompts.getDriftStats()).totalAttestations).toBe(0)
})

test('what is no store is refused', () => {
  for (const Manager of [PhaseLedger, PromptAttestationManager]) {
    expect(() => new Manager(makeWorkspace(), { store: 'mysql://ada:wr0ng@h' })).toThrow(/^store must be/)
  }
})
