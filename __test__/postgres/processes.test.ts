import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { describe, expect, onTestFinished, test } from 'vitest'
import { type HeldLease, PhaseLedger, PromptAttestationManager } from '../../index.js'
import { expectLost, getsIn } from '../helpers/holds.js'
import { Peer, type PeerContext, packageEntry, runScript } from '../helpers/peer.js'
import { startPooler, urlAt } from '../helpers/postgres.js'
import { makeSpec } from '../helpers/shapes.js'
import { postgresPort } from '../helpers/stores.js'
import { until } from '../helpers/wait.js'
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

describe('the lease of a killed process', () => {
  const killedHolder = async (root: string, leaseDuration: number): Promise<void> => {
    const peer = await Peer.start()
    await peer.run(
      async ({ driftlock, kept }, { root, leaseDuration }) => {
        kept.manager = new driftlock.PhaseLeaseManager(root, { agentId: 'victim', leaseDuration })
        kept.held = await kept.manager.hold('T', 'SPEC')
      },
      { root, leaseDuration },
    )
    await peer.kill()
  }

  test('is taken over at once by those who ask for that', async () => {
    const root = makeWorkspace()
    await killedHolder(root, 300)
    const manager = openLeases(root, { agentId: 'heir', takeover: 'dead-holder' })
    const waiting = openLeases(root, { agentId: 'patient' }).hold('T', 'SPEC', { waitMs: 300 })
    await expect(waiting).rejects.toMatchObject({ code: 'LEASE_HELD', message: expect.stringContaining('victim') })
    expect((await manager.acquireLease('T', 'SPEC')).lease?.agent_id).toBe('heir')
    expect(await manager.listLeaseEvents()).toMatchObject([{ kind: 'takeover', agentId: 'victim', by: 'heir' }])
  })

  test('is taken over with those of others, also by one that waits', async () => {
    const root = makeWorkspace()
    const peers = await Peer.startMany(2)
    for (const [i, peer] of peers.entries()) {
      await peer.run(
        async ({ driftlock, kept }, { root, i }) => {
          kept.held = await new driftlock.PhaseLeaseManager(root).hold(`T${i}`, 'SPEC')
        },
        { root, i },
      )
    }
    const heir = openLeases(root, { agentId: 'heir', takeover: 'dead-holder' })
    const keys = ['T0', 'free', 'T1'].map((taskId) => ({ taskId, phase: 'SPEC' }))
    const waiting = heir.holdMany(keys, { waitMs: 120_000 })
    await until(async () => (await heir.listLeases()).every(({ waiters }) => waiters === 1), 'it waits')
    for (const peer of peers) await peer.kill()
    expect((await waiting).leases).toHaveLength(3)
  })

  test('ends by its duration for the others, and for those in another folder', async () => {
    const root = makeWorkspace()
    await killedHolder(root, 1)
    // As on another machine: whether the holder lives is not to be seen from there.
    const elsewhere = openLeases(makeWorkspace(), { takeover: 'dead-holder' })
    expect(await elsewhere.acquireLease('T', 'SPEC')).toMatchObject({ acquired: false, holder: 'victim' })
    expect((await elsewhere.hold('T', 'SPEC', { waitMs: 20_000 })).taskId).toBe('T')
  })
})

describe('a held lease', () => {
  test('is given back by a process that ends, and keeps none alive', async () => {
    for (const how of ['exit', 'nothing']) {
      const root = makeWorkspace()
      const ended = await runScript(
        async ({ driftlock }, { root, how }) => {
          const manager = new driftlock.PhaseLeaseManager(root)
          await manager.hold('T', how)
          if (how === 'exit') process.exit(7)
        },
        { root, how },
      )
      expect(ended).toMatchObject({ code: how === 'exit' ? 7 : 0, stderr: '' })
      expect(await getsIn(openLeases(root), how)).toBe(true)
    }
  })

  test('is given back by a worker thread that is terminated', async () => {
    const root = makeWorkspace()
    const other = openLeases(root)
    const worker = new Worker(
      `const { parentPort, workerData } = require('node:worker_threads')
       const { PhaseLeaseManager } = require(${JSON.stringify(packageEntry)})
       const manager = new PhaseLeaseManager(workerData)
       manager.hold('T', 'SPEC').then(() => parentPort.postMessage('held'))
       setInterval(() => manager, 1000)`,
      { eval: true, workerData: root },
    )
    await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject))
    expect(await getsIn(other)).toBe(false)
    await worker.terminate()
    await until(() => getsIn(other), 'the lease is given back')
  })

  test('is renewed while JavaScript is busy, and its loss is told', async () => {
    const root = makeWorkspace()
    const other = openLeases(root, { agentId: 'other' })
    const lease: HeldLease = await openLeases(root, { leaseDuration: 1.2 }).hold('T', 'SPEC')
    for (const end = Date.now() + 2500; Date.now() < end; );
    expect(lease.remainingMs()).toBeGreaterThan(0)
    expect(await other.acquireLease('T', 'SPEC')).toMatchObject({ acquired: false })
    await other.forceRelease('T', 'SPEC', { by: 'op', reason: 'stuck' })
    await expectLost(lease, /somebody else has released it/)
    expect(await lease.release()).toBe(false)
  })

  test('goes to those who wait, in the order in which all processes asked', async () => {
    const root = makeWorkspace()
    const manager = openLeases(root)
    const lease = await manager.hold('T', 'SPEC')
    const peers = await Peer.startMany(3)
    for (const [i, peer] of peers.entries()) {
      await peer.run(
        ({ driftlock, require }, { root, i }) => {
          const { appendFileSync } = require('node:fs') as typeof import('node:fs')
          void new driftlock.PhaseLeaseManager(root).hold('T', 'SPEC', { waitMs: 25_000 }).then((lease) => {
            appendFileSync(`${root}/order`, String(i))
            return lease.release()
          })
        },
        { root, i },
      )
      await until(async () => (await manager.listLeases())[0]?.waiters === i + 1, 'it waits')
    }
    await lease.release()
    const order = () => (existsSync(join(root, 'order')) ? readFileSync(join(root, 'order'), 'utf8') : '')
    await until(() => order().length === 3, 'all had their turn')
    expect(order()).toBe('012')
  })
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
