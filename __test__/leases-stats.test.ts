import { describe, expect, test } from 'vitest'
import type { PhaseLeaseManager } from '../index.js'
import { Peer } from './helpers/peer.js'
import { onServer } from './helpers/stores.js'
import { sleep, until } from './helpers/wait.js'
import { makeWorkspace, openDatabase, openLeases } from './helpers/workspace.js'

describe('statistics', () => {
  test('are zero without data', async () => {
    expect(await openLeases(makeWorkspace()).getStats()).toEqual({
      totalLeases: 0,
      activeLeases: 0,
      expiredLeases: 0,
      averageHoldTime: 0,
      maxRenewals: 0,
      contentionEvents: 0,
    })
  })

  test('count the rows that are there', async () => {
    const root = makeWorkspace()
    const long = openLeases(root, { maxRenewals: 5 })
    const short = openLeases(root, { leaseDuration: 0.1 })
    await long.acquireLease('A', 'SPEC')
    await long.acquireLease('B', 'SPEC')
    await short.acquireLease('C', 'SPEC')
    await long.renewLease('B', 'SPEC')
    await long.renewLease('B', 'SPEC')
    await until(async () => !(await short.holdsLeaseAsync('C', 'SPEC')), 'C expires')
    expect(await long.getStats()).toMatchObject({ totalLeases: 3, activeLeases: 2, expiredLeases: 1, maxRenewals: 2 })
    await long.releaseLease('B', 'SPEC')
    expect(await long.getStats()).toMatchObject({ totalLeases: 2, activeLeases: 1, expiredLeases: 1, maxRenewals: 0 })
  })

  test('tell how long leases are held, and how often one was refused', async () => {
    const root = makeWorkspace()
    const manager = openLeases(root, { agentId: 'one' })
    const other = openLeases(root, { agentId: 'two' })
    const asked = Date.now()
    await manager.acquireLease('T', 'SPEC')
    const given = Date.now()
    for (let i = 0; i < 3; i++) expect((await other.acquireLease('T', 'SPEC')).acquired).toBe(false)
    expect((await manager.acquireLease('T', 'SPEC')).acquired).toBe(false)
    await sleep(200)
    const returned = Date.now()
    await manager.releaseLease('T', 'SPEC')
    const done = Date.now()
    const stats = await settled(manager, 4)
    expect(stats.contentionEvents).toBe(4)
    expect(stats.averageHoldTime).toBeGreaterThanOrEqual((returned - given - 2) / 1000)
    expect(stats.averageHoldTime).toBeLessThanOrEqual((done - asked + 2) / 1000)
  })

  test('a lease that is still held is no finished hold', async () => {
    const manager = openLeases(makeWorkspace())
    await manager.acquireLease('T', 'SPEC')
    await sleep(20)
    await manager.renewLease('T', 'SPEC')
    expect((await manager.getStats()).averageHoldTime).toBe(0)
  })

  test('hold over all processes, and outlast them', async () => {
    const root = makeWorkspace()
    const manager = openLeases(root, { agentId: 'here' })
    await manager.acquireLease('HELD', 'SPEC')
    const peer = await Peer.start()
    const bounds = await peer.run(async ({ driftlock, sleep }, root: string) => {
      const peers = new driftlock.PhaseLeaseManager(root, { agentId: 'there' })
      for (let i = 0; i < 7; i++) await peers.acquireLease('HELD', 'SPEC')
      const asked = Date.now()
      await peers.acquireLease('T', 'SPEC')
      const given = Date.now()
      await sleep(300)
      const returned = Date.now()
      await peers.releaseLease('T', 'SPEC')
      const done = Date.now()
      peers.close()
      return { least: returned - given, most: done - asked }
    }, root)
    await peer.kill()
    const stats = await settled(manager, 7)
    expect(stats.contentionEvents).toBe(7)
    expect(stats.averageHoldTime).toBeGreaterThanOrEqual((bounds.least - 2) / 1000)
    expect(stats.averageHoldTime).toBeLessThanOrEqual((bounds.most + 2) / 1000)

    // A second hold, shorter than the first, halves what is above it.
    await manager.acquireLease('SHORT', 'SPEC')
    await manager.releaseLease('SHORT', 'SPEC')
    await until(
      async () => (await manager.getStats()).averageHoldTime < stats.averageHoldTime * 0.8,
      'the average falls',
    )
    manager.close()
    const again = await openLeases(root).getStats()
    expect(again.contentionEvents).toBe(7)
    expect(again.averageHoldTime).toBeGreaterThan(0)
  })
})

describe('fencing tokens', () => {
  test('rise over renewal, release, expiry and takeover, over all keys', async () => {
    const root = makeWorkspace()
    const one = openLeases(root, { agentId: 'one', leaseDuration: 0.1 })
    const two = openLeases(root, { agentId: 'two', leaseDuration: 60 })
    const tokens: number[] = []
    const acquire = async (manager: PhaseLeaseManager, task: string): Promise<void> => {
      const { lease } = await manager.acquireLease(task, 'SPEC')
      expect(Number.isSafeInteger(lease?.fencing_token)).toBe(true)
      tokens.push(lease?.fencing_token ?? 0)
    }
    await acquire(one, 'A')
    await acquire(two, 'B')
    expect(await two.releaseLease('B', 'SPEC')).toBe(true)
    await acquire(two, 'B')
    await until(async () => !(await one.holdsLeaseAsync('A', 'SPEC')), 'A expires')
    await acquire(two, 'A')
    await two.renewLease('A', 'SPEC')
    expect((await two.getLeaseAsync('A', 'SPEC'))?.fencing_token).toBe(tokens.at(-1))
    expect(await two.releaseAllLeases()).toBe(2)
    await acquire(one, 'A')
    expectRising(tokens)
  })

  test('rise from process to process and from one opening to the next', async () => {
    const root = makeWorkspace()
    const tokens: number[] = []
    for (let i = 0; i < 3; i++) {
      const manager = openLeases(root)
      tokens.push((await manager.acquireLease('T', 'SPEC')).lease?.fencing_token ?? 0)
      await manager.releaseLease('T', 'SPEC')
      manager.close()
      const peer = await Peer.start()
      tokens.push(
        await peer.run(async ({ driftlock }, root: string) => {
          const manager = new driftlock.PhaseLeaseManager(root)
          const { lease } = await manager.acquireLease('T', 'SPEC')
          await manager.releaseLease('T', 'SPEC')
          return lease?.fencing_token ?? 0
        }, root),
      )
      await peer.kill()
    }
    expectRising(tokens)
  })

  test.runIf(!onServer)('rise although other code deletes the rows', async () => {
    const root = makeWorkspace()
    const manager = openLeases(root)
    const db = openDatabase(root)
    const tokens: number[] = []
    for (let i = 0; i < 4; i++) {
      tokens.push((await manager.acquireLease('T', 'SPEC')).lease?.fencing_token ?? 0)
      db.prepare('DELETE FROM phase_leases').run()
    }
    expectRising(tokens)
  })
})

/** The statistics once they have caught up: they may lag by a second. */
function settled(manager: PhaseLeaseManager, contention: number): ReturnType<PhaseLeaseManager['getStats']> {
  return until(
    async () => {
      const stats = await manager.getStats()
      return stats.averageHoldTime > 0 && stats.contentionEvents >= contention ? stats : null
    },
    'the statistics have caught up',
    3000,
  )
}

function expectRising(tokens: number[]): void {
  expect(tokens.every((token, i) => token > 0 && (i === 0 || token > (tokens[i - 1] ?? Infinity)))).toBe(true)
}
