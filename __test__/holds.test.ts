import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { describe, expect, onTestFinished, test } from 'vitest'
import { fencedWriteFile, type HeldLease, LeaseError, type PhaseLeaseManager } from '../index.js'
import { placeOf } from './helpers/fences.js'
import { expectLost, getsIn } from './helpers/holds.js'
import { Peer, packageEntry, runScript } from './helpers/peer.js'
import { HELD, ISO_MS, NOT_HELD, UUID } from './helpers/shapes.js'
import { onServer, stop } from './helpers/stores.js'
import { sleep, until } from './helpers/wait.js'
import { databasePath, makeWorkspace, openLeases } from './helpers/workspace.js'

/** For several durations of the lease: it is renewed. */
async function expectKept(lease: HeldLease, other: PhaseLeaseManager, ms: number): Promise<void> {
  for (const end = Date.now() + ms; Date.now() < end; await sleep(10)) {
    expect(await other.acquireLease('T', lease.phase)).toMatchObject({ acquired: false, reason: HELD })
    expect(lease.remainingMs()).toBeGreaterThan(0)
  }
  expect(lease.signal.aborted).toBe(false)
}

/** Has another process hold the lease. */
const startHolder = async (root: string, options: { agentId?: string; leaseDuration?: number }): Promise<Peer> => {
  const peer = await Peer.start()
  await peer.run(
    async ({ driftlock, kept }, { root, options }) => {
      kept.manager = new driftlock.PhaseLeaseManager(root, options)
      kept.lease = await kept.manager.hold('T', 'SPEC')
    },
    { root, options },
  )
  return peer
}

describe('a held lease', () => {
  test('says what it is', async () => {
    const manager = openLeases(makeWorkspace(), { agentId: 'me' })
    const start = Date.now()
    const lease = await manager.hold('T', 'SPEC')
    const row = await manager.getLeaseAsync('T', 'SPEC')
    expect(lease).toMatchObject({ taskId: 'T', phase: 'SPEC', leaseId: row?.lease_id, expiresAt: row?.expires_at })
    expect(lease.leaseId).toMatch(UUID)
    expect(lease.fence).toEqual({
      ...placeOf(manager),
      taskId: 'T',
      phase: 'SPEC',
      token: row?.fencing_token,
      leaseId: row?.lease_id,
    })
    expect(Object.isFrozen(lease.fence)).toBe(true)
    expect(lease.expiresAt).toMatch(ISO_MS)
    expect(Date.parse(lease.expiresAt)).toBeGreaterThanOrEqual(start + 300_000)
    expect(lease.remainingMs()).toBeGreaterThan(200_000)
    expect(lease.remainingMs()).toBeLessThanOrEqual(300_000)
    expect(lease.signal.aborted).toBe(false)
    expect(row).toMatchObject({ agent_id: 'me', task_id: 'T', phase: 'SPEC' })
    await manager.checkFence(lease.fence)
  })

  test('is given back once, and its signal stays as it is', async () => {
    const root = makeWorkspace()
    const lease = await openLeases(root).hold('T', 'SPEC')
    expect(await getsIn(openLeases(root))).toBe(false)
    expect(await lease.release()).toBe(true)
    expect(await getsIn(openLeases(root))).toBe(true)
    expect(await lease.release()).toBe(false)
    expect(lease.remainingMs()).toBe(0)
    expect(lease.signal.aborted).toBe(false)
  })

  test('is given back at the end of its block', async () => {
    const root = makeWorkspace()
    const [manager, other] = [openLeases(root), openLeases(root)]
    {
      await using lease = await manager.hold('T', 'SPEC')
      expect(lease.remainingMs()).toBeGreaterThan(0)
      expect(await getsIn(other)).toBe(false)
    }
    expect(await getsIn(other)).toBe(true)
  })

  test('is refused while somebody has it', async () => {
    const root = makeWorkspace()
    await openLeases(root, { agentId: 'first' }).acquireLease('T', 'SPEC')
    const outcome = openLeases(root).hold('T', 'SPEC')
    await expect(outcome).rejects.toBeInstanceOf(LeaseError)
    await expect(outcome).rejects.toMatchObject({ code: 'LEASE_HELD', message: expect.stringContaining('first') })
  })

  test('is renewed while JavaScript is busy', async () => {
    const root = makeWorkspace()
    const other = openLeases(root, { agentId: 'other' })
    const peer = await startHolder(root, { agentId: 'busy', leaseDuration: 0.3 })
    let isBusy = true
    const busy = peer.run(({ kept }) => {
      for (const end = Date.now() + 1500; Date.now() < end; );
      return [kept.lease.remainingMs() > 0, kept.lease.signal.aborted]
    })
    const done = busy.finally(() => (isBusy = false))
    let refusals = 0
    for (; isBusy; await sleep(5), refusals++) {
      expect(await other.acquireLease('T', 'SPEC')).toMatchObject({ acquired: false, holder: 'busy' })
    }
    expect(await done).toEqual([true, false])
    expect(refusals).toBeGreaterThan(10)
  })

  test('is renewed as often as needed, whatever maxRenewals says', async () => {
    const root = makeWorkspace()
    const lease = await openLeases(root, { leaseDuration: 0.3, maxRenewals: 0 }).hold('T', 'SPEC')
    const { expiresAt } = lease
    await expectKept(lease, openLeases(root), 900)
    expect(lease.expiresAt > expiresAt).toBe(true)
  })

  test('ends with maxHoldMs, not before', async () => {
    const root = makeWorkspace()
    const other = openLeases(root)
    const start = performance.now()
    const lease = await openLeases(root, { leaseDuration: 0.3 }).hold('T', 'SPEC', { maxHoldMs: 800 })
    await until(() => getsIn(other), 'the other one gets in')
    expect(lease.remainingMs()).toBe(0)
    expect(performance.now() - start).toBeGreaterThanOrEqual(799)
    await expectLost(lease, /longest time/)
    expect(await lease.release()).toBe(false)
  })

  test('is lost without progress', async () => {
    const root = makeWorkspace()
    const lease = await openLeases(root, { leaseDuration: 0.4 }).hold('T', 'SPEC', { progressMs: 200 })
    await expectLost(lease, /no progress/)
    await until(() => getsIn(openLeases(root)), 'the other one gets in')
  })

  test('is kept with progress', async () => {
    const root = makeWorkspace()
    const lease = await openLeases(root, { leaseDuration: 0.4 }).hold('T', 'SPEC', { progressMs: 500 })
    const timer = setInterval(() => lease.progress(), 20)
    onTestFinished(() => clearInterval(timer))
    await expectKept(lease, openLeases(root), 1200)
    clearInterval(timer)
    await expectLost(lease, /no progress/)
  })

  test('is lost if an operator releases it', async () => {
    const root = makeWorkspace()
    // A server is asked after a sixtieth of the duration.
    const lease = await openLeases(root, { leaseDuration: 12 }).hold('T', 'SPEC')
    await openLeases(root).forceRelease('T', 'SPEC', { by: 'op', reason: 'stuck' })
    await expectLost(lease, /somebody else has released it/)
    expect(lease.remainingMs()).toBe(0)
    expect(await lease.release()).toBe(false)
  })

  test('is given back when its manager is closed; a plain one stays', async () => {
    const root = makeWorkspace()
    const other = openLeases(root)
    const manager = openLeases(root)
    const lease = await manager.hold('T', 'SPEC')
    await manager.acquireLease('T', 'PLAN')
    manager.close()
    expect(await getsIn(other)).toBe(true)
    expect(await getsIn(other, 'PLAN')).toBe(false)
    expect(lease.remainingMs()).toBe(0)
    expect(await lease.release()).toBe(false)
  })
})

describe('the end of a process', () => {
  const holdAndEnd = (end: string): Promise<Awaited<ReturnType<typeof runScript>> & { root: string }> => {
    const root = makeWorkspace()
    return runScript(
      async ({ driftlock, sleep }, { root, end }) => {
        const manager = new driftlock.PhaseLeaseManager(root, { agentId: 'gone', leaseDuration: 1 })
        const { signal } = await manager.hold('T', 'SPEC', { progressMs: 60_000 })
        if (end === 'exit') process.exit(7)
        if (end === 'throw') setImmediate(() => driftlock.setLogLevel(signal as never))
        if (end === 'kill') process.kill(process.pid, 'SIGKILL')
        if (end === 'later') await sleep(20)
      },
      { root, end },
    ).then((ended) => ({ ...ended, root }))
  }

  test.each([
    ['process.exit', 'exit', 7],
    ['an uncaught error', 'throw', 1],
    ['nothing left to do: a held lease keeps no process alive', 'nothing', 0],
    ['nothing left to do, later', 'later', 0],
  ])('gives it back: %s', async (_, end, code) => {
    const { root, ...ended } = await holdAndEnd(end)
    expect(ended).toMatchObject({ code, signal: null, stderr: end === 'throw' ? expect.anything() : '' })
    expect(await openLeases(root).listLeases()).toEqual([])
    expect(await getsIn(openLeases(root))).toBe(true)
  })

  test('SIGKILL does not: it ends by its duration', async () => {
    const { root, signal } = await holdAndEnd('kill')
    expect(signal).toBe('SIGKILL')
    expect(await openLeases(root).getLeaseAsync('T', 'SPEC')).toMatchObject({ agent_id: 'gone' })
    await until(() => getsIn(openLeases(root)), 'the lease ends')
  })

  test('a worker thread that is terminated gives it back', async () => {
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
})

describe('a stopped process', () => {
  const wake = (peer: Peer) => {
    peer.child.kill('SIGCONT')
    return peer.run(async ({ kept, sleep }) => {
      const { signal, fence } = kept.lease as HeldLease
      for (let i = 0; i < 500 && !signal.aborted; i++) await sleep(10)
      const refusal = await kept.manager.checkFence(fence).then(
        () => 'none',
        ({ code }: { code: string }) => code,
      )
      return { code: signal.reason?.code as string, remaining: kept.lease.remainingMs() as number, refusal, fence }
    })
  }

  test('finds its lease lost and its fence refused if somebody else has got in', async () => {
    const root = makeWorkspace()
    const other = openLeases(root)
    const peer = await startHolder(root, { leaseDuration: 0.4 })
    await stop(peer, root)
    await until(() => getsIn(other), 'the lease ends')
    const { fence, ...found } = await wake(peer)
    expect(found).toEqual({ code: 'LEASE_LOST', remaining: 0, refusal: 'FENCED' })
    const file = join(root, 'written')
    await expect(fencedWriteFile(file, 'late', fence)).rejects.toMatchObject({ code: 'FENCED' })
    expect(existsSync(file)).toBe(false)
  })

  test('finds its lease lost if nobody has', async () => {
    const root = makeWorkspace()
    const peer = await startHolder(root, { leaseDuration: 0.3 })
    await stop(peer, root)
    await sleep(500)
    const { fence: _, ...found } = await wake(peer)
    expect(found).toEqual({ code: 'LEASE_LOST', remaining: 0, refusal: 'none' })
  })
})

describe.skipIf(onServer)('a database that another process has locked', () => {
  const lockFor = async (root: string, ms: number): Promise<() => Promise<void>> => {
    const peer = await Peer.start()
    return () =>
      peer.run(
        async ({ Database, sleep }, { path, ms }) => {
          const db = new Database(path, { timeout: 5000 })
          db.exec('BEGIN IMMEDIATE')
          await sleep(ms)
          db.exec('COMMIT')
          db.close()
        },
        { path: databasePath(root), ms },
      )
  }

  test('for less than the lease lasts: it is renewed afterwards', async () => {
    const root = makeWorkspace()
    const [manager, other] = [openLeases(root, { leaseDuration: 1.5 }), openLeases(root)]
    const lock = await lockFor(root, 900)
    const lease = await manager.hold('T', 'SPEC')
    const { expiresAt } = lease
    await lock()
    await until(() => lease.expiresAt > expiresAt, 'it is renewed')
    await expectKept(lease, other, 1000)
  })

  test('for longer: it is lost before it ends', async () => {
    const root = makeWorkspace()
    const [manager, other] = [openLeases(root, { leaseDuration: 0.6 }), openLeases(root)]
    const lock = await lockFor(root, 1000)
    const lease = await manager.hold('T', 'SPEC')
    const locked = lock()
    await expectLost(lease, /could not be renewed in time/)
    expect(lease.remainingMs()).toBe(0)
    await locked
    expect(await getsIn(other)).toBe(true)
  })
})

describe('advance', () => {
  test('hands over in one step', async () => {
    const root = makeWorkspace()
    const [manager, other] = [openLeases(root), openLeases(root)]
    const first = await manager.hold('T', 'SPEC')
    const peer = await Peer.start()
    const watching = peer.run(async ({ driftlock, sleep, kept }, root) => {
      const watcher = new driftlock.PhaseLeaseManager(root)
      const counts = new Set<number>()
      for (let i = 0; !kept.done; i++) {
        counts.add((await watcher.listLeases()).length)
        if (i % 100 === 0) await sleep(0)
      }
      return [...counts]
    }, root)
    let lease = first
    for (let i = 0; i < 100; i++) lease = await lease.advance(i % 2 === 0 ? 'PLAN' : 'SPEC')
    lease = await lease.advance('PLAN')
    await peer.run(({ kept }) => {
      kept.done = true
    })
    expect(await watching).toEqual([1])
    expect(lease).toMatchObject({ taskId: 'T', phase: 'PLAN', fence: { phase: 'PLAN', leaseId: lease.leaseId } })
    await manager.checkFence(lease.fence)
    await expect(manager.checkFence(first.fence)).rejects.toMatchObject({ code: 'FENCED' })
    expect(await getsIn(other, 'PLAN')).toBe(false)
    expect(await getsIn(other)).toBe(true)
    expect(first.remainingMs()).toBe(0)
    expect(await first.release()).toBe(false)
    expect(first.signal.aborted).toBe(false)
    expect(await lease.release()).toBe(true)
  })

  test('keeps the lease if the next one can’t be had', async () => {
    const root = makeWorkspace()
    const [manager, other] = [openLeases(root, { leaseDuration: 0.4 }), openLeases(root, { agentId: 'other' })]
    await other.acquireLease('T', 'PLAN')
    const lease = await manager.hold('T', 'SPEC')
    for (const waitMs of [0, 100]) {
      await expect(lease.advance('PLAN', { waitMs })).rejects.toMatchObject({
        code: 'LEASE_HELD',
        message: expect.stringContaining('other'),
      })
    }
    await expectKept(lease, other, 600)
    expect(await lease.release()).toBe(true)
  })

  test('keeps the lease while the next one is waited for', async () => {
    const root = makeWorkspace()
    const [manager, other] = [openLeases(root, { leaseDuration: 0.4 }), openLeases(root)]
    const theirs = await other.hold('T', 'PLAN')
    const lease = await manager.hold('T', 'SPEC')
    const next = lease.advance('PLAN', { waitMs: 10_000 })
    await expectKept(lease, other, 600)
    await theirs.release()
    expect((await next).phase).toBe('PLAN')
    expect(await getsIn(other)).toBe(true)
  })

  test('that waits does not keep it secret that the lease is lost', async () => {
    const root = makeWorkspace()
    const [manager, other] = [openLeases(root, { leaseDuration: 0.3 }), openLeases(root)]
    await other.acquireLease('T', 'PLAN')
    const lease = await manager.hold('T', 'SPEC', { maxHoldMs: 400 })
    const next = lease.advance('PLAN', { waitMs: 3000 })
    next.catch(() => {})
    await until(() => getsIn(other), 'the other one gets in')
    await until(() => lease.signal.aborted, 'the signal aborts', 1500)
    await expect(next).rejects.toBeInstanceOf(LeaseError)
  })

  test.each([
    ['has been given back', (lease: HeldLease) => lease.release()],
    [
      'has been released by an operator',
      (lease: HeldLease) => openLeases(lease.fence.workspace).forceRelease('T', 'SPEC', { by: 'op', reason: 'test' }),
    ],
    ['has been handed over', (lease: HeldLease) => lease.advance('VERIFY')],
  ])('rejects if the lease %s', async (_, end) => {
    const root = makeWorkspace()
    const lease = await openLeases(root).hold('T', 'SPEC')
    await end(lease)
    await expect(lease.advance('PLAN')).rejects.toMatchObject({ code: 'LEASE_LOST' })
    expect(await getsIn(openLeases(root), 'PLAN')).toBe(true)
  })
})

describe('advanceLease', () => {
  test('hands over in one step', async () => {
    const root = makeWorkspace()
    const [manager, other] = [openLeases(root, { agentId: 'me' }), openLeases(root)]
    const { lease } = await manager.acquireLease('T', 'SPEC')
    const result = await manager.advanceLease('T', 'SPEC', 'PLAN')
    expect(result).toMatchObject({ acquired: true, lease: { phase: 'PLAN', agent_id: 'me' } })
    expect(result.lease?.lease_id).not.toBe(lease?.lease_id)
    expect(await manager.getLeaseAsync('T', 'SPEC')).toBeNull()
    expect(await getsIn(other, 'PLAN')).toBe(false)
    expect(await getsIn(other)).toBe(true)
  })

  test('changes nothing if the next one is held', async () => {
    const root = makeWorkspace()
    const [manager, other] = [openLeases(root, { agentId: 'me' }), openLeases(root, { agentId: 'other' })]
    const { lease } = await manager.acquireLease('T', 'SPEC')
    await other.acquireLease('T', 'PLAN')
    const result = await manager.advanceLease('T', 'SPEC', 'PLAN')
    expect(result).toMatchObject({ acquired: false, reason: HELD, holder: 'other' })
    expect(await manager.getLeaseAsync('T', 'SPEC')).toEqual(lease)
  })

  test('says that the first is not this agent’s', async () => {
    const root = makeWorkspace()
    const [manager, other] = [openLeases(root), openLeases(root)]
    const refused = { acquired: false, reason: NOT_HELD }
    expect(await manager.advanceLease('T', 'SPEC', 'PLAN')).toEqual(refused)
    await other.acquireLease('T', 'SPEC')
    expect(await manager.advanceLease('T', 'SPEC', 'PLAN')).toEqual(refused)
    expect(await getsIn(other, 'PLAN')).toBe(true)
  })
})
