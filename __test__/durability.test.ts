import { describe, expect, test } from 'vitest'
import {
  AttestationError,
  LeaseError,
  LedgerError,
  PhaseLeaseManager,
  PhaseLedger,
  PromptAttestationManager,
} from '../index.js'
import { expectRefused, makeSpec } from './helpers/shapes.js'
import { countTicks } from './helpers/wait.js'
import {
  attestationsPath,
  ledgerPath,
  makeWorkspace,
  openLeases,
  readBaselines,
  readLines,
} from './helpers/workspace.js'

const SYNC = { durability: 'sync' } as const

describe('the option', () => {
  const bad: unknown[] = ['', 'Sync', 'full', 1, true, null, {}, ['sync']]
  const kinds = [
    ['PhaseLeaseManager', LeaseError, (durability: never) => new PhaseLeaseManager(makeWorkspace(), { durability })],
    [
      'PromptAttestationManager',
      AttestationError,
      (durability: never) => new PromptAttestationManager(makeWorkspace(), { durability }),
    ],
    ['PhaseLedger', LedgerError, (durability: never) => new PhaseLedger(makeWorkspace(), { durability })],
  ] as const

  test.each(kinds)('%s refuses what it is not', (_, kind, make) => {
    for (const durability of bad) expectRefused(() => make(durability as never), 'durability', kind)
  })

  test.each(kinds)('%s takes both, undefined and none', (_, __, make) => {
    for (const durability of ['sync', 'process', undefined]) {
      const made = make(durability as never)
      if (made instanceof PhaseLeaseManager) made.close()
    }
    new PromptAttestationManager(makeWorkspace(), undefined)
    new PhaseLedger(makeWorkspace(), { other: 1 } as never)
  })

  test('options that are no object are refused', () => {
    for (const options of ['sync', 1, true]) {
      expectRefused(() => new PromptAttestationManager(makeWorkspace(), options as never), 'options', AttestationError)
      expectRefused(() => new PhaseLedger(makeWorkspace(), options as never), 'options', LedgerError)
    }
  })
})

describe('with sync', () => {
  test('leases answer as without', async () => {
    const leases = openLeases(makeWorkspace(), { ...SYNC, agentId: 'a' })
    expect((await leases.acquireLease('T', 'PLAN')).acquired).toBe(true)
    expect(leases.holdsLease('T', 'PLAN')).toBe(true)
    expect((await leases.acquireLease('T', 'PLAN')).holder).toBe('a')
    expect((await leases.renewLease('T', 'PLAN')).renewed).toBe(true)
    expect((await leases.renewLease('NONE', 'PLAN')).reason).toBe('Lease not held by this agent')
    expect(await leases.releaseLease('T', 'PLAN')).toBe(true)
    expect(await leases.releaseLease('T', 'PLAN')).toBe(false)
    await Promise.all(['A', 'B', 'C'].map((task) => leases.acquireLease(task, 'PLAN')))
    expect((await leases.getStats()).activeLeases).toBe(3)
    expect(await leases.releaseAllLeases()).toBe(3)
  })

  test('calls that nobody awaits take effect in their order, also before a close', async () => {
    const root = makeWorkspace()
    const leases = new PhaseLeaseManager(root, { ...SYNC, agentId: 'a' })
    const answers = [
      leases.acquireLease('T', 'PLAN'),
      leases.releaseLease('T', 'PLAN'),
      leases.acquireLease('T', 'PLAN'),
    ]
    leases.close()
    expect(await Promise.all(answers)).toMatchObject([{ acquired: true }, true, { acquired: true }])
    expect(openLeases(root).getLease('T', 'PLAN')).toMatchObject({ agent_id: 'a' })
  })

  test('attestations answer as without', async () => {
    const root = makeWorkspace()
    const manager = new PromptAttestationManager(root, SYNC)
    await manager.initialize()
    expect(await manager.attest(makeSpec())).toMatchObject({ hasDrift: false })
    const drifted = await manager.attest(makeSpec({ contextSummary: 'other' }))
    expect(drifted).toMatchObject({ hasDrift: true })
    await manager.resetBaseline('TASK-1', 'IMPLEMENT', drifted.currentHash)
    const again = await manager.attest(makeSpec({ contextSummary: 'other' }))
    expect(again).toMatchObject({ hasDrift: false, severity: 'none' })
    expect(again.error).toBeUndefined()
    expect(readLines(attestationsPath(root))).toHaveLength(3)
  })

  test('many at once keep their order, mixed with those that don’t sync', async () => {
    const root = makeWorkspace()
    const [synced, plain] = [new PhaseLedger(root, SYNC), new PhaseLedger(root)]
    await synced.initialize()
    const appends = Array.from({ length: 200 }, (_, i) =>
      (i % 3 ? synced : plain).appendTransition('T', null, `P${i}`, [], true),
    )
    const entries = await Promise.all(appends)
    expect(readLines(ledgerPath(root)).map((entry) => entry.entry_id)).toEqual(entries.map((entry) => entry.entry_id))
    expect(await synced.verify()).toMatchObject({ valid: true, entries_checked: 200 })

    const prompts = [new PromptAttestationManager(root, SYNC), new PromptAttestationManager(root)]
    const answers = await Promise.all(
      Array.from({ length: 200 }, (_, i) =>
        prompts[i % 2]?.attest(makeSpec({ taskId: `T${i >> 2}`, contextSummary: `${i}` })),
      ),
    )
    expect(answers.map((answer) => answer?.hasDrift)).toEqual(answers.map((_, i) => i % 4 > 0))
    expect(Object.keys(readBaselines(root))).toHaveLength(50)
  })

  test('the event loop goes on meanwhile', async () => {
    const root = makeWorkspace()
    const ledger = new PhaseLedger(root, SYNC)
    const leases = openLeases(root, SYNC)
    const ticks = countTicks(1)
    const end = Date.now() + 300
    while (Date.now() < end) {
      await Promise.all([
        ledger.appendTransition('T', null, 'PLAN', [], true),
        leases.acquireLease('T', `${Date.now()}`),
      ])
    }
    expect(ticks.stop()).toBeGreaterThan(20)
  })
})
