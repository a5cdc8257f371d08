import { hostname } from 'node:os'
import { describe, expect, test } from 'vitest'
import { LeaseError, type LeaseEvents, type PhaseLeaseManager } from '../index.js'
import { OldLeases } from './helpers/old-code.js'
import { Peer, runScript } from './helpers/peer.js'
import { expectRefused, expectRejected, HELD, ISO_MS, UUID } from './helpers/shapes.js'
import { onServer } from './helpers/stores.js'
import { sleep, until } from './helpers/wait.js'
import { makeWorkspace, openLeases } from './helpers/workspace.js'

const BY = { by: 'operator', reason: 'it hangs' }

const codeOf = (promise: Promise<unknown>): Promise<string | undefined> =>
  promise.then(
    () => undefined,
    (error) => error.code,
  )

/** Another process with a manager of its own, as `agentId`. */
async function agent(root: string, agentId: string, leaseDuration = 300): Promise<Peer> {
  const peer = await Peer.start()
  await peer.run(
    ({ driftlock, kept }, { root, options }) => {
      kept.manager = new driftlock.PhaseLeaseManager(root, options)
    },
    { root, options: { agentId, leaseDuration } },
  )
  return peer
}

const acquireBy = (peer: Peer, task: string): Promise<boolean> =>
  peer.run(async ({ kept }, task) => (await kept.manager.acquireLease(task, 'SPEC')).acquired as boolean, task)

describe('listLeases', () => {
  test('tells who has what, since when and for how long, and how many wait', async () => {
    const root = makeWorkspace()
    const manager = openLeases(root, { agentId: 'me', leaseDuration: 60 })
    const since = performance.now()
    const { lease } = await manager.acquireLease('B', 'SPEC')
    const peer = await agent(root, 'other')
    await acquireBy(peer, 'A')
    const wait = (): Promise<unknown> => manager.hold('A', 'SPEC', { waitMs: 25_000 }).catch((error) => error)
    const waiting = [wait(), wait()]
    await until(async () => (await manager.listLeases())[0]?.waiters === 2, 'both wait')
    await sleep(5)
    const [a, b, ...more] = await manager.listLeases()
    const most = performance.now() - since + 5
    expect(more).toEqual([])
    expect(b).toEqual({
      lease,
      pid: process.pid,
      host: hostname(),
      heldMs: expect.any(Number),
      remainingMs: expect.any(Number),
      waiters: 0,
    })
    expect(b?.heldMs).toBeGreaterThanOrEqual(5)
    expect(b?.heldMs).toBeLessThanOrEqual(most)
    expect((b?.heldMs ?? 0) + (b?.remainingMs ?? 0)).toBe(60_000)
    expect(a).toMatchObject({ lease: { agent_id: 'other', task_id: 'A', phase: 'SPEC' }, pid: peer.pid, waiters: 2 })
    expect(a?.lease).toEqual(await manager.getLeaseAsync('A', 'SPEC'))
    manager.close()
    for (const error of await Promise.all(waiting)) expect(error).toMatchObject({ code: 'CLOSED' })
    const other = openLeases(root)
    // A server hears of it a moment later.
    await until(
      async () => (await other.listLeases()).every(({ waiters }) => waiters === 0),
      'their places are given up',
    )
  })

  test('lists those that have ended, by task and phase, until they are given back', async () => {
    const manager = openLeases(makeWorkspace(), { leaseDuration: 0.05 })
    for (const phase of ['SPEC', 'PLAN']) for (const task of ['b', 'a', 'B']) await manager.acquireLease(task, phase)
    const haveEnded = async () => (await manager.listLeases()).every(({ remainingMs }) => remainingMs === 0)
    await until(haveEnded, 'they have expired')
    const listed = await manager.listLeases()
    expect(listed.map(({ lease }) => `${lease.task_id} ${lease.phase}`)).toEqual([
      'B PLAN',
      'B SPEC',
      'a PLAN',
      'a SPEC',
      'b PLAN',
      'b SPEC',
    ])
    for (const { remainingMs, heldMs } of listed) {
      expect(remainingMs).toBe(0)
      expect(heldMs).toBeGreaterThanOrEqual(50)
    }
    await manager.releaseAllLeases()
    expect(await manager.listLeases()).toEqual([])
  })

  test.runIf(!onServer)('knows no process of old code', async () => {
    const root = makeWorkspace()
    const manager = openLeases(root)
    new OldLeases(root, 'old').acquire('T', 'SPEC')
    const [listed] = await manager.listLeases()
    expect(listed).toMatchObject({ lease: { agent_id: 'old', task_id: 'T' }, waiters: 0 })
    expect([listed?.pid, listed?.host]).toEqual([undefined, undefined])
    expect(listed?.remainingMs).toBeGreaterThan(200_000)
    const me = openLeases(root, { agentId: 'me', leaseDuration: 60 })
    await me.acquireLease('U', 'SPEC')
    expect((await manager.listLeases())[1]?.pid).toBe(process.pid)
    new OldLeases(root, 'me').renew('U', 'SPEC')
    expect((await manager.listLeases())[1]?.pid).toBeUndefined()
  })

  test('tells the process that has renewed it last', async () => {
    const root = makeWorkspace()
    const peer = await agent(root, 'me')
    await acquireBy(peer, 'T')
    const manager = openLeases(root, { agentId: 'me' })
    expect((await manager.listLeases())[0]?.pid).toBe(peer.pid)
    await manager.renewLease('T', 'SPEC')
    expect((await manager.listLeases())[0]?.pid).toBe(process.pid)
  })
})

test('any string can be listed, released and told of', async () => {
  const strings = [
    '',
    ' ',
    'a\u0000b',
    '\u0000',
    'x\ud83d',
    '\udc00x',
    'x\ufffd',
    '👩‍👩‍👧',
    '__proto__',
    "'; --",
    'a\nb',
  ]
  const root = makeWorkspace()
  const manager = openLeases(root, { agentId: 'agent \ud83d\u0000' })
  const told: string[] = []
  manager.on('forced-release', ({ taskId }) => told.push(taskId))
  for (const string of strings) {
    await manager.acquireLease(string, 'SPEC')
    await manager.acquireLease('T', string)
  }
  const listed = await manager.listLeases()
  expect(listed.filter(({ lease }) => lease.phase === 'SPEC').map(({ lease }) => lease.task_id)).toEqual(
    expect.arrayContaining(strings),
  )
  expect(listed.filter(({ lease }) => lease.task_id === 'T').map(({ lease }) => lease.phase)).toEqual(
    expect.arrayContaining(strings),
  )
  expect(listed).toHaveLength(2 * strings.length)
  for (const string of strings) {
    const options = { by: `by ${string}`, reason: `since ${string}` }
    expect((await manager.forceRelease(string, 'SPEC', options))?.task_id).toBe(string)
    expect((await manager.forceRelease('T', string, options))?.phase).toBe(string)
  }
  expect(await manager.listLeases()).toEqual([])
  const events = await manager.listLeaseEvents()
  expect(events.map(({ taskId, phase, by, reason, agentId }) => [taskId, phase, by, reason, agentId])).toEqual(
    strings.flatMap((string) => [
      [string, 'SPEC', `by ${string}`, `since ${string}`, 'agent \ud83d\u0000'],
      ['T', string, `by ${string}`, `since ${string}`, 'agent \ud83d\u0000'],
    ]),
  )
  await until(() => told.length === 2 * strings.length, 'all are told')
  expect(told).toEqual(strings.flatMap((string) => [string, 'T']))
})

describe('forceRelease', () => {
  test('says who and why, or is refused and changes nothing', async () => {
    const manager = openLeases(makeWorkspace())
    await manager.acquireLease('T', 'SPEC')
    const wrong: [unknown, string][] = [
      [undefined, 'options'],
      ['operator', 'options'],
      [{}, 'by'],
      [{ by: 'operator' }, 'reason'],
      [{ reason: 'it hangs' }, 'by'],
      [{ ...BY, by: '' }, 'by'],
      [{ ...BY, reason: '' }, 'reason'],
      [{ ...BY, by: 7 }, 'by'],
      [{ ...BY, reason: null }, 'reason'],
    ]
    for (const [options, argument] of wrong) {
      await expectRejected(() => manager.forceRelease('T', 'SPEC', options as never), argument, LeaseError)
    }
    await expectRejected(() => manager.forceRelease(7 as never, 'SPEC', BY), 'taskId', LeaseError)
    await expectRejected(() => manager.forceRelease('T', null as never, BY), 'phase', LeaseError)
    expect(manager.holdsLease('T', 'SPEC')).toBe(true)
    expect(await manager.listLeaseEvents()).toEqual([])
  })

  test('answers null where there is no lease, and records nothing', async () => {
    const manager = openLeases(makeWorkspace())
    await manager.acquireLease('T', 'SPEC')
    expect(await manager.forceRelease('T', 'PLAN', BY)).toBeNull()
    expect(await manager.forceRelease('U', 'SPEC', BY)).toBeNull()
    expect(await manager.listLeaseEvents()).toEqual([])
    expect(manager.holdsLease('T', 'SPEC')).toBe(true)
  })

  test('ends the lease of anybody, expired or not, and only this one', async () => {
    const root = makeWorkspace()
    const holder = openLeases(root, { agentId: 'holder', leaseDuration: 0.05 })
    const operator = openLeases(root, { agentId: 'other' })
    const { lease } = await holder.acquireLease('T', 'SPEC')
    await operator.acquireLease('T', 'PLAN')
    await until(async () => !(await holder.holdsLeaseAsync('T', 'SPEC')), 'it has expired')
    expect(await operator.forceRelease('T', 'SPEC', BY)).toEqual(lease)
    expect(await holder.renewLease('T', 'SPEC')).toMatchObject({ renewed: false })
    expect(await holder.releaseLease('T', 'SPEC')).toBe(false)
    expect(operator.holdsLease('T', 'PLAN')).toBe(true)
    expect((await operator.acquireLease('T', 'SPEC')).lease?.fencing_token).toBeGreaterThan(lease?.fencing_token ?? 0)
  })

  test('tells who holds it, refuses its fence and lets those in who wait', async () => {
    const root = makeWorkspace()
    const peer = await agent(root, 'holder')
    await peer.run(async ({ kept }) => {
      kept.held = await kept.manager.hold('T', 'SPEC')
    })
    const operator = openLeases(root, { agentId: 'heir' })
    const waiting = operator.hold('T', 'SPEC', { waitMs: 25_000 })
    await until(async () => (await operator.listLeases())[0]?.waiters, 'it waits')
    await operator.forceRelease('T', 'SPEC', BY)
    expect((await waiting).taskId).toBe('T')
    await until(() => peer.run(({ kept }) => kept.held.signal.aborted as boolean), 'it is told')
    const holder = await peer.run(async ({ driftlock, kept }) => ({
      isLeaseError: kept.held.signal.reason instanceof driftlock.LeaseError,
      code: kept.held.signal.reason.code,
      remainingMs: kept.held.remainingMs(),
      fence: await kept.manager.checkFence(kept.held.fence).catch((error: { code: string }) => error.code),
      released: await kept.held.release(),
    }))
    expect(holder).toEqual({ isLeaseError: true, code: 'LEASE_LOST', remainingMs: 0, fence: 'FENCED', released: false })
    expect(operator.holdsLease('T', 'SPEC')).toBe(true)
  })

  test('is on record, also for a process that comes later', async () => {
    const root = makeWorkspace()
    const holder = openLeases(root, { agentId: 'holder' })
    const { lease } = await holder.acquireLease('T', 'SPEC')
    const before = new Date().toISOString()
    const peer = await agent(root, 'operator’s agent')
    const released = await peer.run(({ kept }, by) => kept.manager.forceRelease('T', 'SPEC', by), BY)
    expect(released).toEqual(lease)
    await peer.kill()
    holder.close()
    const [event, ...more] = await openLeases(root).listLeaseEvents()
    expect(more).toEqual([])
    expect(event).toEqual({
      id: expect.any(Number),
      kind: 'forced-release',
      at: expect.stringMatching(ISO_MS),
      taskId: 'T',
      phase: 'SPEC',
      agentId: 'holder',
      fencingToken: lease?.fencing_token,
      ...BY,
    })
    expect((event?.at ?? '') >= before).toBe(true)
    expect(lease?.lease_id).toMatch(UUID)
  })
})

describe('events', () => {
  /** What `manager` is told of from now on. */
  function listen(manager: PhaseLeaseManager): LeaseEvents[keyof LeaseEvents][] {
    const told: LeaseEvents[keyof LeaseEvents][] = []
    for (const kind of ['contention', 'expiry', 'takeover', 'forced-release'] as const) {
      manager.on(kind, (event: LeaseEvents[keyof LeaseEvents]) => {
        expect(event.kind).toBe(kind)
        told.push(event)
      })
    }
    return told
  }

  test('tell what other processes did, in the order of the record and nothing from before', async () => {
    const root = makeWorkspace()
    const [one, two] = await Promise.all([agent(root, 'one', 0.05), agent(root, 'two')])
    await acquireBy(one, 'before')
    await two.run(({ kept }, by) => kept.manager.forceRelease('before', 'SPEC', by), BY)
    const watchers = [openLeases(root), openLeases(root)]
    const told = watchers.map(listen)
    // Over a network they begin with the next answer.
    for (const watcher of watchers) await watcher.getStats()
    await acquireBy(one, 'T')
    await until(() => acquireBy(two, 'T'), 'it has expired')
    await two.run(({ kept }, by) => kept.manager.forceRelease('T', 'SPEC', by), BY)
    await acquireBy(two, 'dead')
    await two.kill()
    const heir = openLeases(root, { agentId: 'heir', takeover: 'dead-holder' })
    expect((await heir.acquireLease('dead', 'SPEC')).acquired).toBe(true)
    const recorded = (await heir.listLeaseEvents()).slice(1)
    expect(recorded.map(({ kind, agentId, by }) => [kind, agentId, by])).toEqual([
      ['expiry', 'one', 'two'],
      ['forced-release', 'two', 'operator'],
      ['takeover', 'two', 'heir'],
    ])
    for (const events of told) {
      await until(() => events.length >= 3, 'all are told')
      // The end of a lease may be noticed before its take-over, which alone is recorded.
      const [end, ...others] = events
      expect(end).toMatchObject({ kind: 'expiry', agentId: 'one', fencingToken: recorded[0]!.fencingToken })
      expect(others).toEqual(recorded.slice(1))
    }
    const ids = recorded.map(({ id }) => id)
    expect(ids).toEqual([...new Set(ids)].sort((a, b) => a - b))
  })

  test('a refused acquisition is told to the manager that asked, and to no other', async () => {
    const root = makeWorkspace()
    const manager = openLeases(root, { agentId: 'me' })
    const other = openLeases(root, { agentId: 'other' })
    await manager.acquireLease('T', 'SPEC')
    const [mine, others] = [listen(manager), listen(other)]
    expect(await other.acquireLease('T', 'SPEC')).toMatchObject({ acquired: false, reason: HELD })
    await other.acquireLease('free', 'SPEC')
    await until(() => others.length, 'it is told')
    expect(others).toEqual([
      { kind: 'contention', taskId: 'T', phase: 'SPEC', holder: 'me', expiresIn: expect.any(Number) },
    ])
    await manager.forceRelease('free', 'SPEC', BY)
    await until(() => mine.length && others.length === 2, 'something else is told')
    expect(mine.map(({ kind }) => kind)).toEqual(['forced-release'])
    expect(await other.listLeaseEvents()).toHaveLength(1)
  })

  test.each<[string, (manager: PhaseLeaseManager) => Promise<unknown>]>([
    ['hold', (manager) => manager.hold('T', 'SPEC')],
    ['a hold that has waited', (manager) => manager.hold('T', 'SPEC', { waitMs: 20 })],
    [
      'holdMany',
      (manager) =>
        manager.holdMany([
          { taskId: 'free', phase: 'SPEC' },
          { taskId: 'T', phase: 'SPEC' },
        ]),
    ],
    ['advanceLease', (manager) => manager.advanceLease('T', 'PLAN', 'SPEC')],
    ['advance', async (manager) => (await manager.hold('T', 'REVIEW')).advance('SPEC')],
  ])('a refused %s is a refused acquisition too', async (_, ask) => {
    const root = makeWorkspace()
    await openLeases(root, { agentId: 'holder' }).acquireLease('T', 'SPEC')
    const manager = openLeases(root, { agentId: 'me' })
    await manager.acquireLease('T', 'PLAN')
    const told = listen(manager)
    await ask(manager).catch(() => {})
    await until(() => told.length, 'it is told')
    expect(told).toMatchObject([{ kind: 'contention', taskId: 'T', phase: 'SPEC', holder: 'holder' }])
  })

  test('off ends it for this listener only', async () => {
    const manager = openLeases(makeWorkspace())
    const told: string[] = []
    const one = () => told.push('one')
    const two = () => told.push('two')
    expect(manager.on('forced-release', one).on('forced-release', two)).toBe(manager)
    const release = async (): Promise<void> => {
      await manager.acquireLease('T', 'SPEC')
      await manager.forceRelease('T', 'SPEC', BY)
    }
    await release()
    await until(() => told.length === 2, 'both are told')
    expect(manager.off('forced-release', one)).toBe(manager)
    await release()
    await until(() => told.length > 2, 'one is told')
    await sleep(100)
    expect(told).toEqual(['one', 'two', 'two'])
  })

  test('an event that there is not is refused', () => {
    const manager = openLeases(makeWorkspace())
    for (const event of ['error', 'release', '', 'constructor', undefined, 7]) {
      expectRefused(() => manager.on(event as never, () => {}), 'event', LeaseError)
      expectRefused(() => manager.off(event as never, () => {}), 'event', LeaseError)
    }
  })

  test('nothing is told after close', async () => {
    const root = makeWorkspace()
    const [closed, open] = [openLeases(root), openLeases(root)]
    const [toClosed, toOpen] = [listen(closed), listen(open)]
    closed.close()
    await open.acquireLease('T', 'SPEC')
    await open.forceRelease('T', 'SPEC', BY)
    await until(() => toOpen.length, 'the other one is told')
    await sleep(100)
    expect(toClosed).toEqual([])
  })

  test('listening keeps no process alive', async () => {
    const ended = await runScript(async ({ driftlock }, root) => {
      const manager = new driftlock.PhaseLeaseManager(root)
      for (const event of ['contention', 'expiry', 'takeover', 'forced-release'] as const) manager.on(event, () => {})
      await manager.acquireLease('T', 'SPEC')
      await manager.hold('U', 'SPEC')
      console.log('done')
    }, makeWorkspace())
    expect(ended).toEqual({ code: 0, signal: null, stdout: 'done\n', stderr: '' })
  })
})

test('all calls after close are refused', async () => {
  const manager = openLeases(makeWorkspace())
  const { fence } = await manager.hold('T', 'SPEC')
  manager.close()
  const calls = {
    listLeases: () => manager.listLeases(),
    listLeaseEvents: () => manager.listLeaseEvents(),
    forceRelease: () => manager.forceRelease('T', 'SPEC', BY),
    checkFence: () => manager.checkFence(fence),
    hold: () => manager.hold('T', 'SPEC'),
    'waiting hold': () => manager.hold('T', 'SPEC', { waitMs: 1000 }),
    holdMany: () => manager.holdMany([{ taskId: 'T', phase: 'SPEC' }]),
    health: () => manager.health(),
  }
  for (const [name, call] of Object.entries(calls)) expect(await codeOf(call()), name).toBe('CLOSED')
})
