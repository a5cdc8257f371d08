import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { LeaseAcquisitionResult } from '../index.js'
import { OldLeases } from './helpers/old-code.js'
import { Peer } from './helpers/peer.js'
import { HELD } from './helpers/shapes.js'
import { onServer } from './helpers/stores.js'
import { sleep, until } from './helpers/wait.js'
import { makeWorkspace, openLeases } from './helpers/workspace.js'

const HEIR = { agentId: 'heir', takeover: 'dead-holder' } as const

/** How a process comes to hold the leases of its tasks, for longer than any test. */
type How = 'acquireLease' | 'hold'
/** The ways that make a difference: on a server all leases are written by one function. */
const WAYS: How[] = onServer ? ['hold'] : ['acquireLease', 'hold']

/** A process that holds the lease of each task, as `victim`. */
async function holder(root: string, how: How = 'acquireLease', tasks: string[] = ['T']): Promise<Peer> {
  const peer = await Peer.start()
  await hold(peer, root, how, tasks)
  return peer
}

async function hold(peer: Peer, root: string, how: How, tasks: string[]): Promise<void> {
  await peer.run(
    async ({ driftlock, kept }, { root, how, tasks }) => {
      const manager = new driftlock.PhaseLeaseManager(root, { agentId: 'victim' })
      kept[root] = manager
      for (const task of tasks) {
        if (how === 'hold') await manager.hold(task, 'SPEC')
        else if (!(await manager.acquireLease(task, 'SPEC')).acquired) throw new Error(`${task} is not free`)
      }
    },
    { root, how, tasks },
  )
}

const close = (peer: Peer, root: string): Promise<void> => peer.run(({ kept }, root) => kept[root].close(), root)

/** What another process gets that asks for the lease, once it has answered and ended. */
const acquireElsewhere = async (root: string): Promise<LeaseAcquisitionResult> => {
  const peer = await Peer.start()
  return peer.run(
    async ({ driftlock }, { root, options }) => {
      const manager = new driftlock.PhaseLeaseManager(root, options)
      const result = await manager.acquireLease('T', 'SPEC')
      manager.close()
      return result
    },
    { root, options: { ...HEIR, agentId: 'elsewhere' } },
  )
}

describe.each(WAYS)('the lease that a killed process had by %s', (how) => {
  test('is free at once', async () => {
    const root = makeWorkspace()
    const peer = await holder(root, how)
    const heir = openLeases(root, HEIR)
    const token = (await heir.getLeaseAsync('T', 'SPEC'))?.fencing_token
    expect(await heir.acquireLease('T', 'SPEC')).toMatchObject({ acquired: false, reason: HELD, holder: 'victim' })
    await peer.kill()
    const { lease } = await heir.acquireLease('T', 'SPEC')
    expect(lease?.agent_id).toBe('heir')
    expect(lease?.fencing_token).toBeGreaterThan(token ?? Infinity)
    expect(heir.holdsLease('T', 'SPEC')).toBe(true)
    expect(await openLeases(root, { agentId: 'victim' }).renewLease('T', 'SPEC')).toMatchObject({ renewed: false })
  })

  test('is free at once for another process', async () => {
    const root = makeWorkspace()
    const peer = await holder(root, how)
    await peer.kill()
    expect(await acquireElsewhere(root)).toMatchObject({ acquired: true, lease: { agent_id: 'elsewhere' } })
  })

  test('is free at once for a hold, for several, and for one that waits', async () => {
    const root = makeWorkspace()
    const peer = await holder(root, how, ['T', 'U', 'V', 'W'])
    const heir = openLeases(root, HEIR)
    const waiting = heir.hold('T', 'SPEC', { waitMs: 25_000 })
    const both = heir.holdMany(
      [
        { taskId: 'U', phase: 'SPEC' },
        { taskId: 'free', phase: 'SPEC' },
      ],
      { waitMs: 25_000 },
    )
    await until(async () => {
      const listed = await heir.listLeases()
      return listed.filter(({ waiters }) => waiters === 1).length === 2
    }, 'both wait')
    await peer.kill()
    expect((await heir.hold('V', 'SPEC')).taskId).toBe('V')
    expect((await waiting).taskId).toBe('T')
    expect((await both).leases.map(({ taskId }) => taskId)).toEqual(['U', 'free'])
    await heir.acquireLease('X', 'SPEC')
    expect(await heir.advanceLease('X', 'SPEC', 'PLAN')).toMatchObject({ acquired: true })
    const events = await heir.listLeaseEvents()
    expect(events.map(({ kind, agentId, by }) => [kind, agentId, by])).toEqual(
      Array.from({ length: 3 }, () => ['takeover', 'victim', 'heir']),
    )
  })

  test('is free at once for one that waits for those of several', async () => {
    const root = makeWorkspace()
    const peers = [await holder(root, how, ['T']), await holder(root, how, ['U'])]
    const heir = openLeases(root, HEIR)
    const keys = ['T', 'free', 'U'].map((taskId) => ({ taskId, phase: 'SPEC' }))
    const waiting = heir.holdMany(keys, { waitMs: 25_000 })
    await until(async () => (await heir.listLeases()).every(({ waiters }) => waiters === 1), 'it waits')
    for (const peer of peers) await peer.kill()
    expect((await waiting).leases).toHaveLength(3)
  })

  test('lasts where only its expiry counts', async () => {
    const root = makeWorkspace()
    const peer = await holder(root, how)
    await peer.kill()
    for (const takeover of ['expiry', undefined] as const) {
      const manager = openLeases(root, { agentId: 'patient', takeover })
      expect(await manager.acquireLease('T', 'SPEC')).toMatchObject({ acquired: false, holder: 'victim' })
      await expect(manager.hold('T', 'SPEC', { waitMs: 600 })).rejects.toMatchObject({ code: 'LEASE_HELD' })
      expect(await manager.listLeaseEvents()).toEqual([])
    }
  })

  test('is recorded as taken over', async () => {
    const root = makeWorkspace()
    const peer = await holder(root, how)
    const heir = openLeases(root, HEIR)
    const fencingToken = (await heir.getLeaseAsync('T', 'SPEC'))?.fencing_token
    await peer.kill()
    await heir.acquireLease('T', 'SPEC')
    expect(await heir.listLeaseEvents()).toMatchObject([
      { kind: 'takeover', taskId: 'T', phase: 'SPEC', agentId: 'victim', by: 'heir', fencingToken },
    ])
  })

  test('is not free while the process is only stopped', async () => {
    const root = makeWorkspace()
    const peer = await holder(root, how)
    peer.child.kill('SIGSTOP')
    const heir = openLeases(root, HEIR)
    expect(await heir.acquireLease('T', 'SPEC')).toMatchObject({ acquired: false, holder: 'victim' })
    await expect(heir.hold('T', 'SPEC', { waitMs: 600 })).rejects.toMatchObject({ code: 'LEASE_HELD' })
    peer.child.kill('SIGCONT')
    expect(await peer.run(({ kept }, root) => kept[root].renewLease('T', 'SPEC'), root)).toMatchObject({
      renewed: true,
    })
  })
})

describe('a process that has closed properly is not dead', () => {
  test.each(['running', 'killed'])('while it is %s: its agent still holds, and can renew and release', async (now) => {
    const root = makeWorkspace()
    const peer = await holder(root)
    await close(peer, root)
    if (now === 'killed') await peer.kill()
    const heir = openLeases(root, HEIR)
    expect(await heir.acquireLease('T', 'SPEC')).toMatchObject({ acquired: false, holder: 'victim' })
    await expect(heir.hold('T', 'SPEC', { waitMs: 600 })).rejects.toMatchObject({ code: 'LEASE_HELD' })
    const again = openLeases(root, { agentId: 'victim' })
    expect(await again.holdsLeaseAsync('T', 'SPEC')).toBe(true)
    expect((await again.renewLease('T', 'SPEC')).renewed).toBe(true)
    expect(await heir.acquireLease('T', 'SPEC')).toMatchObject({ acquired: false, holder: 'victim' })
    expect(await again.releaseLease('T', 'SPEC')).toBe(true)
    expect((await heir.acquireLease('T', 'SPEC')).acquired).toBe(true)
    expect(await heir.listLeaseEvents()).toEqual([])
  })

  test('its lease ends by its expiry', async () => {
    const root = makeWorkspace()
    const closed = openLeases(root, { agentId: 'closed', leaseDuration: 0.1 })
    await closed.acquireLease('T', 'SPEC')
    closed.close()
    const heir = openLeases(root, HEIR)
    await until(async () => (await heir.acquireLease('T', 'SPEC')).acquired, 'it has expired')
    expect(await heir.listLeaseEvents()).toMatchObject([{ kind: 'expiry', agentId: 'closed', by: 'heir' }])
  })

  test('whoever has renewed a lease last is who has to be alive', async () => {
    const root = makeWorkspace()
    const peer = await holder(root)
    const same = openLeases(root, { agentId: 'victim' })
    expect((await same.renewLease('T', 'SPEC')).renewed).toBe(true)
    await peer.kill()
    expect(await openLeases(root, HEIR).acquireLease('T', 'SPEC')).toMatchObject({ acquired: false, holder: 'victim' })
    expect(await same.holdsLeaseAsync('T', 'SPEC')).toBe(true)
  })

  test('another open manager of its process speaks for it', async () => {
    const root = makeWorkspace()
    const peer = await holder(root)
    await peer.run(({ driftlock, kept }, root) => {
      kept.second = new driftlock.PhaseLeaseManager(root, { agentId: 'second' })
      return kept.second.acquireLease('U', 'SPEC')
    }, root)
    await close(peer, root)
    expect(await openLeases(root, HEIR).acquireLease('U', 'SPEC')).toMatchObject({ acquired: false, holder: 'second' })
    await peer.kill()
    expect((await openLeases(root, HEIR).acquireLease('U', 'SPEC')).acquired).toBe(true)
  })
})

describe.skipIf(onServer)('of old code nothing is known', () => {
  test('the lease that it has acquired lasts until its expiry', async () => {
    const root = makeWorkspace()
    const heir = openLeases(root, HEIR)
    const old = new OldLeases(root, 'old', 1)
    expect(old.acquire('T', 'SPEC').acquired).toBe(true)
    const expiresAt = Date.parse(old.get('T', 'SPEC').expires_at)
    expect(await heir.acquireLease('T', 'SPEC')).toMatchObject({ acquired: false, holder: 'old' })
    await heir.hold('T', 'SPEC', { waitMs: 20_000 })
    expect(Date.now()).toBeGreaterThanOrEqual(expiresAt)
    expect(await heir.listLeaseEvents()).toMatchObject([{ kind: 'expiry', agentId: 'old', by: 'heir' }])
  })

  test('so does one that it has renewed after the death of who had acquired it', async () => {
    const root = makeWorkspace()
    const peer = await holder(root)
    await peer.kill()
    const old = new OldLeases(root, 'victim')
    await sleep(5)
    expect(old.renew('T', 'SPEC')).toBe(true)
    const heir = openLeases(root, HEIR)
    expect(await heir.acquireLease('T', 'SPEC')).toMatchObject({ acquired: false, holder: 'victim' })
    await expect(heir.hold('T', 'SPEC', { waitMs: 600 })).rejects.toMatchObject({ code: 'LEASE_HELD' })
    expect(old.release('T', 'SPEC')).toBe(true)
  })
})

describe('an agent that asks for its own lease', () => {
  test('gets it again with reentrant: true, with the same token and for the full duration', async () => {
    const root = makeWorkspace()
    const manager = openLeases(root, { agentId: 'me', reentrant: true, leaseDuration: 60 })
    const { lease: first } = await manager.acquireLease('T', 'SPEC')
    await sleep(5)
    const again = openLeases(root, { agentId: 'me', reentrant: true, leaseDuration: 600 })
    const { acquired, lease } = await again.acquireLease('T', 'SPEC')
    expect(acquired).toBe(true)
    expect(lease).toEqual({ ...first, expires_at: lease?.expires_at })
    expect(Date.parse(lease?.expires_at ?? '')).toBeGreaterThan(Date.parse(first?.expires_at ?? '') + 500_000)
    expect(await manager.getLeaseAsync('T', 'SPEC')).toEqual(lease)
    const held = await again.hold('T', 'SPEC')
    expect([held.leaseId, held.fence.token]).toEqual([first?.lease_id, first?.fencing_token])
    expect(await again.listLeaseEvents()).toEqual([])
    const other = openLeases(root, { agentId: 'other', reentrant: true })
    expect(await other.acquireLease('T', 'SPEC')).toMatchObject({ acquired: false, holder: 'me' })
  })

  test('gets it again in a new process, though it has died, and so has expired', async () => {
    const root = makeWorkspace()
    const peer = await holder(root)
    await peer.kill()
    const manager = openLeases(root, { agentId: 'victim', reentrant: true, leaseDuration: 0.4 })
    const before = await manager.getLeaseAsync('T', 'SPEC')
    const get = async () => (await manager.acquireLease('T', 'SPEC')).lease
    expect((await get())?.fencing_token).toBe(before?.fencing_token)
    await until(async () => !(await manager.holdsLeaseAsync('T', 'SPEC')), 'it has expired')
    expect((await get())?.lease_id).toBe(before?.lease_id)
    expect(manager.holdsLease('T', 'SPEC')).toBe(true)
  })

  test.each([false, undefined])('is refused with reentrant: %s', async (reentrant) => {
    const root = makeWorkspace()
    const options = { agentId: 'me', reentrant }
    const manager = openLeases(root, options)
    const { lease } = await manager.acquireLease('T', 'SPEC')
    for (const asking of [
      manager,
      openLeases(root, options),
      openLeases(root, { ...options, ...HEIR, agentId: 'me' }),
    ]) {
      expect(await asking.acquireLease('T', 'SPEC')).toMatchObject({ acquired: false, reason: HELD, holder: 'me' })
      await expect(asking.hold('T', 'SPEC')).rejects.toMatchObject({ code: 'LEASE_HELD' })
    }
    expect(await manager.getLeaseAsync('T', 'SPEC')).toEqual(lease)
  })
})

describe('the files of living processes', () => {
  const folder = (root: string): string => join(root, 'state', onServer ? 'postgres' : '', 'lease-holders')
  const inFolder = (root: string): string[] => (existsSync(folder(root)) ? readdirSync(folder(root)) : [])

  test('are there while a process has a manager that acquires, and gone once all have closed', async () => {
    const root = makeWorkspace()
    const peers = await Peer.startMany(3)
    await Promise.all(peers.map((peer, i) => hold(peer, root, 'acquireLease', [`T${i}`])))
    const mine = [openLeases(root), openLeases(root)]
    expect(inFolder(root)).toHaveLength(3)
    for (const manager of mine) await manager.acquireLease('mine', 'SPEC')
    expect(inFolder(root)).toHaveLength(4)
    for (const manager of mine) manager.close()
    await until(() => inFolder(root).length === 3, 'that of this process is gone')
    await Promise.all(peers.map((peer) => close(peer, root)))
    await until(() => inFolder(root).length === 0, 'the others are gone')
  })

  // On a server the two would be one: see postgres/processes.test.ts.
  test.skipIf(onServer)('of one workspace say nothing about another', async () => {
    const [one, two] = [makeWorkspace(), makeWorkspace()]
    const peer = await holder(one)
    await hold(peer, two, 'acquireLease', ['T'])
    await close(peer, one)
    expect(inFolder(one)).toEqual([])
    expect(inFolder(two)).toHaveLength(1)
    await peer.kill()
    expect(await openLeases(one, HEIR).acquireLease('T', 'SPEC')).toMatchObject({ acquired: false, holder: 'victim' })
    expect((await openLeases(two, HEIR).acquireLease('T', 'SPEC')).acquired).toBe(true)
    expect(await openLeases(one).listLeaseEvents()).toEqual([])
  })
})
