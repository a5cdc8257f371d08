import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { PhaseLedger, PromptAttestationManager } from '../../index.js'
import { Peer, type PeerContext } from '../helpers/peer.js'
import { startPooler, urlAt } from '../helpers/postgres.js'
import { makeSpec } from '../helpers/shapes.js'
import { postgresPort } from '../helpers/stores.js'
import { makeWorkspace, openLeases } from '../helpers/workspace.js'

interface Turns {
  root: string
  inside: string
  turns: number
  store?: string
}

/** Over there: has the lease, fails if somebody else is in, appends and attests with its fence, and gives it back. */
const takeTurns = async ({ driftlock, require }: PeerContext, { root, inside, turns, store }: Turns) => {
  const fs = require('node:fs') as typeof import('node:fs')
  const leases = new driftlock.PhaseLeaseManager(root, { store })
  const ledger = new driftlock.PhaseLedger(root, { store })
  const prompts = new driftlock.PromptAttestationManager(root, { store })
  const tokens: number[] = []
  while (tokens.length < turns) {
    // For longer than the test may take: whoever is forgotten in the queue fails it.
    const lease = await leases.hold('T', 'SPEC', { waitMs: 120_000 })
    fs.closeSync(fs.openSync(inside, 'wx'))
    const { fence } = lease
    tokens.push(fence.token)
    await ledger.appendTransition('T', null, 'SPEC', [], true, { fence })
    await prompts.attest(
      {
        phase: 'SPEC',
        taskId: 'T',
        timestamp: '',
        requirements: [],
        qualityGates: [],
        artifacts: [],
        contextSummary: 'the same',
      },
      { fence },
    )
    fs.unlinkSync(inside)
    if (!(await lease.release())) throw new Error('lost the lease')
  }
  leases.close()
  return tokens
}

describe('several processes', () => {
  /** What `count` of them have done, by these ways. */
  async function storm(stores: (string | undefined)[], turns: number): Promise<void> {
    const root = makeWorkspace()
    const peers = await Peer.startMany(stores.length)
    const inside = join(root, 'inside')
    const all = await Promise.all(
      peers.map((peer, i) => peer.run(takeTurns, { root, inside, turns, store: stores[i] })),
    )
    const count = stores.length * turns
    expect(new Set(all.flat()).size).toBe(count)
    for (const tokens of all) expect(tokens).toEqual([...tokens].sort((a, b) => a - b))
    const ledger = new PhaseLedger(root)
    expect(await ledger.verify()).toMatchObject({ valid: true, entries_checked: count })
    const stats = await new PromptAttestationManager(root).getDriftStats()
    expect(stats).toMatchObject({ totalAttestations: count, driftDetections: 0 })
    expect(await openLeases(root).getStats()).toMatchObject({ totalLeases: 0 })
  }

  test('take turns, never two at once, and nothing is lost', () => storm(Array(4).fill(undefined), 12))

  test('some of them through a pooler that changes connections between transactions', async () => {
    const pooler = await startPooler({ port: postgresPort })
    onTestFinished(pooler.stop)
    const direct = process.env.DRIFTLOCK_STORE ?? ''
    const schema = decodeURIComponent(direct.split('schema=')[1] ?? '')
    const pooled = urlAt(pooler.port, schema)
    await storm([direct, pooled, pooled], 6)
  })
})

test('the lease of a killed process ends by its duration for those in another folder', async () => {
  const [root, peer] = [makeWorkspace(), await Peer.start()]
  await peer.run(async ({ driftlock, kept }, root: string) => {
    kept.manager = new driftlock.PhaseLeaseManager(root, { agentId: 'victim', leaseDuration: 1 })
    kept.held = await kept.manager.hold('T', 'SPEC')
  }, root)
  await peer.kill()
  // As on another machine: whether the holder lives is not to be seen from there.
  const elsewhere = openLeases(makeWorkspace(), { takeover: 'dead-holder' })
  expect(await elsewhere.acquireLease('T', 'SPEC')).toMatchObject({ acquired: false, holder: 'victim' })
  expect((await elsewhere.hold('T', 'SPEC', { waitMs: 20_000 })).taskId).toBe('T')
})

test('texts of 100,000 characters are kept as they are', async () => {
  const root = makeWorkspace()
  const long = `${'x'.repeat(50_000)}\0\ud83d${'é'.repeat(50_000)}`
  const manager = openLeases(root, { agentId: long })
  expect((await manager.acquireLease(long, 'SPEC')).lease?.task_id).toBe(long)
  expect(await manager.getLeaseAsync(long, 'SPEC')).toMatchObject({ task_id: long, agent_id: long })
  const prompts = new PromptAttestationManager(root)
  await prompts.attest(makeSpec({ taskId: long, personaSummary: long }))
  expect((await prompts.getAttestationHistory(long))[0]).toMatchObject({ task_id: long, persona_summary: long })
  const ledger = new PhaseLedger(root)
  const entry = await ledger.appendTransition(long, null, 'SPEC', [long], true)
  expect(await ledger.getTaskHistory(long)).toEqual([entry])
  expect(await ledger.verify()).toMatchObject({ valid: true })
})
