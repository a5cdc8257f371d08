import { appendFileSync, existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { LeaseError, type PhaseLeaseManager } from '../index.js'
import { Peer, type PeerContext } from './helpers/peer.js'
import { HELD } from './helpers/shapes.js'
import { onServer, queryStore, setClock, stop, stopClock } from './helpers/stores.js'
import { sleep, until } from './helpers/wait.js'
import { databasePath, makeWorkspace, openDatabase, openLeases } from './helpers/workspace.js'

interface Queuer {
  root: string
  agentId: string
  waitMs?: number
}

/** Over there: asks for the lease, and notes when it has it; gives it back at once. */
const queueUp = ({ driftlock, kept, require }: PeerContext, { root, agentId, waitMs = 60_000 }: Queuer) => {
  const { appendFileSync } = require('node:fs') as typeof import('node:fs')
  const manager = new driftlock.PhaseLeaseManager(root, { agentId })
  kept.controller = new AbortController()
  kept.outcome = manager
    .hold('T', 'SPEC', { waitMs, signal: kept.controller.signal })
    .then((lease) => {
      appendFileSync(`${root}/order`, `${agentId}\n`)
      return lease.release()
    })
    .catch((error) => error)
}

const waiters = async (manager: PhaseLeaseManager): Promise<number> => (await manager.listLeases())[0]?.waiters ?? 0
const places = (root: string): number =>
  onServer
    ? Number(queryStore('SELECT count(*) FROM @.waiters'))
    : Number(openDatabase(root).prepare('SELECT count(*) FROM phase_lease_waiters').pluck().get())

/** Nobody is in the queue any more; a server learns of it just after whoever has left it. */
async function expectNoPlaces(root: string): Promise<void> {
  if (onServer) await until(() => places(root) === 0, 'all places are given up')
  expect(places(root)).toBe(0)
}
const order = (root: string): string[] =>
  existsSync(join(root, 'order')) ? readFileSync(join(root, 'order'), 'utf8').split('\n').slice(0, -1) : []

async function queue(peer: Peer, manager: PhaseLeaseManager, queuer: Queuer): Promise<void> {
  const before = await waiters(manager)
  await peer.run(queueUp, queuer)
  await until(async () => (await waiters(manager)) === before + 1, `${queuer.agentId} waits`)
}

describe('the queue', () => {
  // Whoever gets no processor for 50 ms is passed over.
  test('first come, first served', { retry: 2 }, async () => {
    const root = makeWorkspace()
    const manager = openLeases(root)
    const peers = await Peer.startMany(3)
    const lease = await manager.hold('T', 'SPEC')
    // On a server nobody needs to hurry then.
    if (onServer) stopClock()
    const asked: string[] = []
    for (let round = 0; round < 4; round++) {
      for (const [i, peer] of peers.entries()) {
        asked.push(`agent-${round}-${i}`)
        await queue(peer, manager, { root, agentId: `agent-${round}-${i}` })
      }
    }
    expect(order(root)).toEqual([])
    await lease.release()
    await until(() => order(root).length === asked.length, 'all had their turn')
    expect(order(root)).toEqual(asked)
  })

  test('who cancels loses its place', async () => {
    const root = makeWorkspace()
    const manager = openLeases(root)
    const [head, next] = (await Peer.startMany(2)) as [Peer, Peer]
    const lease = await manager.hold('T', 'SPEC')
    await queue(head, manager, { root, agentId: 'head' })
    await queue(next, manager, { root, agentId: 'next' })
    const isReason = await head.run(async ({ kept }) => {
      const reason = new Error('no longer')
      kept.controller.abort(reason)
      return (await kept.outcome) === reason
    })
    expect(isReason).toBe(true)
    // A server learns of it just after whoever has left.
    if (onServer) await until(async () => (await waiters(manager)) === 1, 'one place is given up')
    expect(await waiters(manager)).toBe(1)
    await lease.release()
    expect(await next.run(({ kept }) => kept.outcome as Promise<unknown>)).toBe(true)
    expect(order(root)).toEqual(['next'])
    await expectNoPlaces(root)
  })

  test('who has cancelled before asking gets nothing', async () => {
    const root = makeWorkspace()
    const manager = openLeases(root)
    const reason = new Error('no longer')
    await expect(manager.hold('T', 'SPEC', { signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
    expect(await manager.getLeaseAsync('T', 'SPEC')).toBeNull()
  })

  test('who is killed loses its place', async () => {
    const root = makeWorkspace()
    const manager = openLeases(root)
    const [head, next] = (await Peer.startMany(2)) as [Peer, Peer]
    const lease = await manager.hold('T', 'SPEC')
    // So many that it would take 10 s to pass them over.
    await head.run(({ driftlock, kept }, root: string) => {
      kept.manager = new driftlock.PhaseLeaseManager(root)
      for (let i = 0; i < 200; i++) void kept.manager.hold('T', 'SPEC', { waitMs: 60_000 })
    }, root)
    await until(async () => (await waiters(manager)) === 200, 'they wait')
    await queue(next, manager, { root, agentId: 'next' })
    await head.kill()
    await lease.release()
    await until(() => order(root)[0] === 'next', 'the next one gets in', 5000)
  })

  test('who has waited long enough is refused, and loses its place', async () => {
    const root = makeWorkspace()
    await openLeases(root, { agentId: 'holder' }).hold('T', 'SPEC')
    const outcomes = await Promise.all(
      Array.from({ length: 10 }, () =>
        openLeases(root)
          .hold('T', 'SPEC', { waitMs: 200 })
          .catch((error: unknown) => error),
      ),
    )
    for (const outcome of outcomes) {
      expect(outcome).toBeInstanceOf(LeaseError)
      expect(outcome).toMatchObject({ code: 'LEASE_HELD', message: expect.stringContaining('holder') })
    }
    await expectNoPlaces(root)
  })

  describe.skipIf(onServer)('while another process has the database locked', () => {
    const lock = ({ Database }: PeerContext, { path, ms }: { path: string; ms: number }) => {
      const db = new Database(path)
      db.exec('BEGIN IMMEDIATE')
      setTimeout(() => db.close(), ms)
    }

    test('who cancels is answered, and loses its place afterwards', async () => {
      const root = makeWorkspace()
      const manager = openLeases(root)
      const peer = await Peer.start()
      await manager.hold('T', 'SPEC')
      const controller = new AbortController()
      const outcome = openLeases(root)
        .hold('T', 'SPEC', { waitMs: 60_000, signal: controller.signal })
        .catch((error: unknown) => error)
      await until(async () => (await waiters(manager)) === 1, 'it waits')
      await peer.run(lock, { path: databasePath(root), ms: 400 })
      controller.abort('no longer')
      expect(await outcome).toBe('no longer')
      await until(async () => (await waiters(manager)) === 0, 'its place is given up')
    })

    test('who has waited long enough is told who holds the lease', async () => {
      const root = makeWorkspace()
      const manager = openLeases(root, { agentId: 'holder' })
      const peer = await Peer.start()
      await manager.hold('T', 'SPEC')
      const outcome = openLeases(root).hold('T', 'SPEC', { waitMs: 200 })
      const refused = expect(outcome).rejects.toMatchObject({ code: 'LEASE_HELD' })
      await until(async () => (await waiters(manager)) === 1, 'it waits')
      await peer.run(lock, { path: databasePath(root), ms: 350 })
      await refused
      await until(() => places(root) === 0, 'its place is given up')
    })
  })

  test('who closes its manager loses its place', async () => {
    const root = makeWorkspace()
    const holder = openLeases(root)
    await holder.hold('T', 'SPEC')
    const manager = openLeases(root)
    const waiting = manager.hold('T', 'SPEC', { waitMs: 60_000 })
    const outcome = expect(waiting).rejects.toMatchObject({ name: 'LeaseError', code: 'CLOSED' })
    await until(async () => (await waiters(holder)) === 1, 'it waits')
    manager.close()
    await outcome
    await expectNoPlaces(root)
  })

  test('who closes its manager right after asking is answered too', async () => {
    const root = makeWorkspace()
    await openLeases(root).hold('T', 'SPEC')
    for (let i = 0; i < 20; i++) {
      const manager = openLeases(root)
      const waiting = manager.hold('T', 'SPEC', { waitMs: 60_000 })
      const outcome = expect(waiting).rejects.toMatchObject({ code: 'CLOSED' })
      if (i % 2 === 1) await sleep(i / 10)
      manager.close()
      await outcome
    }
    await expectNoPlaces(root)
  })

  test('acquireLease does not overtake, until the first waiter has let its chance go by', async () => {
    const root = makeWorkspace()
    const [manager, third] = [openLeases(root), openLeases(root, { agentId: 'third' })]
    const head = await Peer.start()
    await manager.acquireLease('T', 'SPEC')
    await queue(head, manager, { root, agentId: 'head' })
    await stop(head, root)
    // One right after the other, in the thread that makes this manager's calls; and no time passes on a server.
    if (onServer) stopClock()
    const released = manager.releaseLease('T', 'SPEC')
    const refused = manager.acquireLease('T', 'SPEC')
    expect(await released).toBe(true)
    expect(await refused).toMatchObject({ acquired: false, reason: HELD, holder: 'head' })
    if (onServer) setClock('clock_timestamp()')
    await until(async () => {
      const result = await third.acquireLease('T', 'SPEC')
      if (!result.acquired) expect(result).toMatchObject({ reason: HELD, holder: 'head' })
      return result.acquired
    }, 'the head is passed over')
    head.child.kill('SIGCONT')
    await sleep(50)
    expect(order(root)).toEqual([])
    await third.releaseLease('T', 'SPEC')
    await until(() => order(root)[0] === 'head', 'the head gets in after all')
  })

  test('a lease that ends goes to the waiter, though nobody releases it', async () => {
    const root = makeWorkspace()
    const manager = openLeases(root)
    const [holder, waiter] = (await Peer.startMany(2)) as [Peer, Peer]
    await holder.run(async ({ driftlock, kept }, root: string) => {
      kept.manager = new driftlock.PhaseLeaseManager(root, { leaseDuration: 1.5 })
      await kept.manager.acquireLease('T', 'SPEC')
    }, root)
    await queue(waiter, manager, { root, agentId: 'waiter' })
    await holder.kill()
    await until(() => order(root)[0] === 'waiter', 'the waiter gets in')
  })

  test('a lease that another process gives back is handed over at once', async () => {
    const root = makeWorkspace()
    const manager = openLeases(root)
    const peer = await Peer.start()
    const times: number[] = []
    for (let round = 0; round < 15; round++) {
      await peer.run(async ({ driftlock, kept }, root: string) => {
        kept.manager ??= new driftlock.PhaseLeaseManager(root)
        kept.lease = await kept.manager.hold('T', 'SPEC', { waitMs: 10_000 })
      }, root)
      const waiting = manager.hold('T', 'SPEC', { waitMs: 60_000 })
      await until(async () => (await waiters(manager)) === 1, 'this one waits')
      const releasing = peer.run(async ({ kept }) => {
        const start = performance.timeOrigin + performance.now()
        await kept.lease.release()
        return start
      })
      const lease = await waiting
      times.push(performance.timeOrigin + performance.now() - (await releasing))
      await lease.release()
    }
    const median = times.sort((a, b) => a - b)[7] ?? Infinity
    console.log(`hand-over to another process: median ${median.toFixed(1)} ms of ${times.length}`)
    // Measuring is for benchmarks; this only tells looking now and then from being in time.
    expect(median).toBeLessThan(50)
  })

  test('a hundred in one process all get their turn, one at a time', async () => {
    const root = makeWorkspace()
    const manager = openLeases(root)
    const lease = await manager.hold('T', 'SPEC')
    const managers = Array.from({ length: 4 }, (_, i) => openLeases(root, { agentId: `agent-${i}` }))
    let inside = 0
    const turns = Array.from({ length: 100 }, async (_, i) => {
      const mine = await managers[i % 4]?.hold('T', 'SPEC', { waitMs: 60_000 })
      expect(++inside).toBe(1)
      appendFileSync(join(root, 'order'), `${i}\n`)
      await sleep(0)
      inside--
      expect(await mine?.release()).toBe(true)
    })
    await until(async () => (await waiters(manager)) === 100, 'they wait')
    await lease.release()
    await Promise.all(turns)
    expect(new Set(order(root)).size).toBe(100)
    await expectNoPlaces(root)
  })
})
