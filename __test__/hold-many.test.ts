import { describe, expect, test } from 'vitest'
import type { LeaseKey } from '../index.js'
import { expectLost, getsIn } from './helpers/holds.js'
import { Peer, type PeerContext } from './helpers/peer.js'
import { onServer } from './helpers/stores.js'
import { makeWorkspace, openLeases } from './helpers/workspace.js'

describe('holdMany', () => {
  const keys = ['SPEC', 'PLAN', 'VERIFY'].map((phase) => ({ taskId: 'T', phase }))

  test('holds all, in their order, and gives all back', async () => {
    const root = makeWorkspace()
    const [manager, other] = [openLeases(root), openLeases(root)]
    const held = await manager.holdMany(keys)
    expect(held.leases.map(({ taskId, phase }) => ({ taskId, phase }))).toEqual(keys)
    for (const { fence } of held.leases) await manager.checkFence(fence)
    for (const { phase } of keys) expect(await getsIn(other, phase)).toBe(false)
    expect(await held.release()).toBe(true)
    expect(await held.release()).toBe(false)
    for (const { phase } of keys) expect(await getsIn(other, phase)).toBe(true)
  })

  test('holds none if one can’t be had', async () => {
    const root = makeWorkspace()
    const [manager, other] = [openLeases(root), openLeases(root, { agentId: 'other' })]
    await other.acquireLease('T', 'VERIFY')
    for (const waitMs of [0, 100]) {
      await expect(manager.holdMany(keys, { waitMs })).rejects.toMatchObject({ code: 'LEASE_HELD' })
    }
    expect(await getsIn(other)).toBe(true)
    expect(await getsIn(other, 'PLAN')).toBe(true)
  })

  test('gives all back at the end of its block', async () => {
    const root = makeWorkspace()
    const [manager, other] = [openLeases(root), openLeases(root)]
    {
      await using held = await manager.holdMany(keys)
      expect(held.signal.aborted).toBe(false)
    }
    for (const { phase } of keys) expect(await getsIn(other, phase)).toBe(true)
  })

  test('tells if one of them is lost', async () => {
    const root = makeWorkspace()
    const held = await openLeases(root).holdMany(keys)
    await openLeases(root).forceRelease('T', 'PLAN', { by: 'op', reason: 'test' })
    await expectLost(held, /PLAN/)
    expect(held.leases.map(({ signal }) => signal.aborted)).toEqual([false, true, false])
    expect(await held.release()).toBe(false)
  })

  test('takes its list as it was when it was called', async () => {
    const manager = openLeases(makeWorkspace())
    const own = keys.map((key) => ({ ...key }))
    const holding = manager.holdMany(own)
    for (const key of own) key.phase = 'PR'
    own.length = 1
    const { leases } = await holding
    expect(leases.map(({ phase }) => phase)).toEqual(['SPEC', 'PLAN', 'VERIFY'])
    for (const { fence } of leases) await manager.checkFence(fence)
  })

  test('two processes that ask in opposite order never wait for each other', async () => {
    const root = makeWorkspace()
    openLeases(root)
    const turns = async (
      { driftlock, require }: PeerContext,
      { root, keys, rounds }: { root: string; keys: LeaseKey[]; rounds: number },
    ) => {
      const fs = require('node:fs') as typeof import('node:fs')
      const manager = new driftlock.PhaseLeaseManager(root)
      for (let i = 0; i < rounds; i++) {
        const held = await manager.holdMany(keys, { waitMs: 15_000 })
        fs.closeSync(fs.openSync(`${root}/inside`, 'wx')) // fails if the other one is in here
        fs.unlinkSync(`${root}/inside`)
        if (!(await held.release())) throw new Error('lost a lease')
      }
      return 'done'
    }
    const [one, two] = (await Peer.startMany(2)) as [Peer, Peer]
    const rounds = onServer ? 15 : 60
    const done = [one.run(turns, { root, keys, rounds }), two.run(turns, { root, keys: [...keys].reverse(), rounds })]
    expect(await Promise.all(done)).toEqual(['done', 'done'])
  })
})
