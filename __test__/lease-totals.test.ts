import { mkdirSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { OldLeases } from './helpers/old-code.js'
import { Peer, type PeerContext } from './helpers/peer.js'
import { onServer } from './helpers/stores.js'
import { until } from './helpers/wait.js'
import { makeWorkspace, openDatabase, openLeases, snapshot } from './helpers/workspace.js'

type Totals = Record<string, number>

/** What the exporter that comes with the package reads. */
const leaseTotals = (createRequire(__filename)('../binding.js') as { __leaseTotals(root: string): Promise<Totals> })
  .__leaseTotals

interface Asker {
  root: string
  seed: number
  rounds: number
}

const PROCESSES = onServer ? 3 : 8
const ROUNDS = 60

/** Over there: asks for the same few leases in every way, and notes what it was answered. */
const ask = async ({ driftlock, sleep }: PeerContext, { root, seed, rounds }: Asker): Promise<Totals> => {
  const manager = new driftlock.PhaseLeaseManager(root, {
    agentId: `agent-${seed}`,
    maxRenewals: 1,
    takeover: 'expiry',
  })
  const heard = { acquired: 0, contended: 0, renewed: 0, renewalsRefused: 0, forcedReleases: 0 }
  let state = seed + 1
  const random = (below: number): number => {
    state = (state * 48_271) % 0x7fffffff
    return state % below
  }
  const note = (answer: { acquired: boolean; holder?: string }): void => {
    if (answer.acquired) heard.acquired++
    else if (answer.holder !== undefined) heard.contended++
  }
  const phases = ['SPEC', 'PLAN', 'THINK']
  for (let i = 0; i < rounds; i++) {
    const task = `T${random(2)}`
    const phase = phases[random(3)] as string
    switch (random(6)) {
      case 0:
        await manager.releaseAllLeases()
        break
      case 1:
        for (let n = random(3); n >= 0; n--) {
          if ((await manager.renewLease(task, phase)).renewed) heard.renewed++
          else heard.renewalsRefused++
        }
        break
      case 2:
        note(await manager.advanceLease(task, phase, phases[(phases.indexOf(phase) + 1) % 3] as string))
        break
      case 3: {
        const keys = phases.map((phase) => ({ taskId: task, phase }))
        try {
          const held = await manager.holdMany(keys, { waitMs: random(2) * 20 })
          heard.acquired += 3
          await sleep(1)
          await held.release()
        } catch (error) {
          if ((error as { code?: string }).code !== 'LEASE_HELD') throw error
          heard.contended++
        }
        break
      }
      case 4:
        if (random(4) === 0) {
          if (await manager.forceRelease(task, phase, { by: 'test', reason: 'now and then' })) heard.forcedReleases++
          break
        }
        note(await manager.acquireLease(task, phase))
        break
      default:
        note(await manager.acquireLease(task, phase))
    }
  }
  manager.close()
  return heard
}

describe('the totals of a workspace', () => {
  test('are what the processes were answered', async () => {
    const root = makeWorkspace()
    const peers = await Peer.startMany(PROCESSES)
    const heard = await Promise.all(peers.map((peer, seed) => peer.run(ask, { root, seed, rounds: ROUNDS })))
    const sum: Totals = {}
    for (const counts of heard) for (const [name, n] of Object.entries(counts)) sum[name] = (sum[name] ?? 0) + n
    if (!onServer) for (const count of Object.values(sum)) expect(count).toBeGreaterThan(0)
    const totals = await leaseTotals(root)
    expect(totals).toMatchObject({ ...sum, acquireErrors: 0, renewalErrors: 0, takeoversDeadHolder: 0 })
    expect(totals.finishedHolds).toBe((sum.acquired ?? 0) - (totals.active ?? 0))
    expect((await openLeases(root).getStats()).contentionEvents).toBe(sum.contended)
  })

  test('tell of take-overs, of who waits, and of the oldest lease, while managers are open', async () => {
    const root = makeWorkspace()
    const peer = await Peer.start()
    await peer.run(async ({ driftlock, kept }, root: string) => {
      kept.manager = new driftlock.PhaseLeaseManager(root)
      kept.short = new driftlock.PhaseLeaseManager(root, { leaseDuration: 0.1 })
      await kept.manager.acquireLease('DEAD', 'SPEC')
      await kept.short.acquireLease('LATE', 'SPEC')
    }, root)
    const manager = openLeases(root, { takeover: 'dead-holder' })
    await until(async () => (await leaseTotals(root)).expired === 1, 'a lease expires')
    await peer.kill()
    expect((await manager.acquireLease('LATE', 'SPEC')).acquired).toBe(true)
    expect((await manager.acquireLease('DEAD', 'SPEC')).acquired).toBe(true)
    expect(await leaseTotals(root)).toMatchObject({
      takeoversExpired: 1,
      takeoversDeadHolder: 1,
      active: 2,
      waiters: 0,
    })
    const controller = new AbortController()
    const { signal } = controller
    const keys = ['DEAD', 'LATE'].map((taskId) => ({ taskId, phase: 'SPEC' }))
    const outcome = openLeases(root)
      .holdMany(keys, { waitMs: 60_000, signal })
      .catch(() => 'cancelled')
    // One who waits for two leases.
    await until(async () => (await leaseTotals(root)).waiters === 1, 'somebody waits')
    controller.abort()
    expect(await outcome).toBe('cancelled')
    // A server hears of it a moment later.
    await until(async () => (await leaseTotals(root)).waiters === 0, 'its place is given up')
    expect(await leaseTotals(root)).toMatchObject({ contended: 0 })
    expect((await leaseTotals(root)).oldestAgeSeconds).toBeGreaterThan(0)
  })

  test('another process sees them soon, and a killed one takes little with it', async () => {
    const root = makeWorkspace()
    openLeases(root)
    const peer = await Peer.start()
    await peer.run(async ({ driftlock, kept }, root: string) => {
      kept.manager = new driftlock.PhaseLeaseManager(root)
      for (let i = 0; i < 100; i++) {
        await kept.manager.acquireLease(`T${i}`, 'SPEC')
        await kept.manager.renewLease(`T${i}`, 'SPEC')
      }
    }, root)
    await until(async () => (await leaseTotals(root)).renewed === 100, 'what is counted is stored')
    expect(await leaseTotals(root)).toMatchObject({ acquired: 100, active: 100 })
    await peer.kill()
    expect(await leaseTotals(root)).toMatchObject({ acquired: 100, renewed: 100 })
  })

  test.runIf(!onServer)(
    'are null before there is a database of this version, and reading them changes nothing',
    async () => {
      const root = makeWorkspace()
      expect(await leaseTotals(root)).toBeNull()
      expect(snapshot(root)).toEqual({})
      mkdirSync(join(root, 'state'))
      new OldLeases(root, 'old').acquire('T', 'SPEC')
      // Who reads says so in the shared memory, which is no file of anybody's data.
      const files = (): unknown => ({ ...snapshot(root), '/state/orchestrator.db-shm': undefined })
      const before = files()
      expect(await leaseTotals(root)).toBeNull()
      expect(files()).toEqual(before)
      openLeases(root)
      expect(await leaseTotals(root)).toMatchObject({ acquired: 0, active: 1 })
    },
  )

  test.runIf(!onServer)('can be read while somebody else has the database locked', async () => {
    const root = makeWorkspace()
    await openLeases(root).acquireLease('T', 'SPEC')
    const db = openDatabase(root)
    db.exec('BEGIN IMMEDIATE')
    expect(await leaseTotals(root)).toMatchObject({ acquired: 1, active: 1 })
    db.exec('ROLLBACK')
  })

  test('need a path', async () => {
    await expect(leaseTotals(7 as unknown as string)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  })
})
