import { statSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { PhaseLeaseManager } from '../index.js'
import { Peer } from './helpers/peer.js'
import { HELD, NOT_HELD } from './helpers/shapes.js'
import { onServer } from './helpers/stores.js'
import { countTicks, until } from './helpers/wait.js'
import { databasePath, makeWorkspace, openDatabase, openLeases } from './helpers/workspace.js'

describe('several processes', () => {
  test('open a fresh workspace at the same moment', async () => {
    const peers = await Peer.startMany(6)
    const root = makeWorkspace()
    const results = await Promise.all(
      peers.map((peer) =>
        peer.run(({ driftlock }, root: string) => {
          const manager = new driftlock.PhaseLeaseManager(root)
          return manager.acquireLease(`T-${process.pid}`, 'SPEC')
        }, root),
      ),
    )
    expect(results.map(({ acquired, reason }) => ({ acquired, reason }))).toEqual(
      Array.from({ length: 6 }, () => ({ acquired: true, reason: undefined })),
    )
  })

  test('race for the same keys: each key has one winner, and the losers know who', async () => {
    const root = makeWorkspace()
    const peers = await Peer.startMany(6)
    const start = Date.now() + 300
    const all = await Promise.all(
      peers.map((peer) =>
        peer.run(
          async ({ driftlock, sleep }, { root, start }) => {
            const manager = new driftlock.PhaseLeaseManager(root, { agentId: `agent-${process.pid}` })
            await sleep(start - Date.now())
            return Promise.all(Array.from({ length: 40 }, (_, i) => manager.acquireLease(`T${i}`, 'SPEC')))
          },
          { root, start },
        ),
      ),
    )
    const tokens = new Set<number>()
    for (let i = 0; i < 40; i++) {
      const results = all.map((list) => list[i])
      const winners = results.filter((result) => result?.acquired)
      expect(winners).toHaveLength(1)
      const winner = winners[0]?.lease
      tokens.add(winner?.fencing_token ?? 0)
      for (const result of results) {
        if (!result?.acquired) expect(result).toMatchObject({ reason: HELD, holder: winner?.agent_id })
      }
    }
    expect(tokens.size).toBe(40)
  })

  test.skipIf(onServer)('write without a pause: the write-ahead log has an end all the same', async () => {
    const root = makeWorkspace()
    openLeases(root)
    const peers = await Peer.startMany(8)
    const working = Promise.all(
      peers.map((peer) =>
        peer.run(async ({ driftlock }, root: string) => {
          const manager = new driftlock.PhaseLeaseManager(root)
          let leases = 0
          for (const end = Date.now() + 2000; Date.now() < end; leases++) {
            const task = `T${Math.floor(Math.random() * 1000)}`
            await manager.acquireLease(task, 'SPEC')
            await manager.releaseLease(task, 'SPEC')
          }
          return leases
        }, root),
      ),
    )
    const sizes: number[] = []
    const sampling = setInterval(() => sizes.push(statSync(`${databasePath(root)}-wal`).size), 50)
    const leases = (await working).reduce((sum, one) => sum + one)
    clearInterval(sampling)
    // Each lease takes two pages. If the log never started anew, all of them would be in it.
    const written = leases * 2 * 2048
    expect(Math.max(...sizes)).toBeLessThan(Math.max(written / 2, 32 << 20))
  })

  test('take turns, and never two at once', async () => {
    const root = makeWorkspace()
    openLeases(root)
    const peers = await Peer.startMany(4)
    const outcomes = await Promise.all(
      peers.map((peer) =>
        peer.run(
          async ({ driftlock, require, sleep }, { root, inside }) => {
            const fs = require('node:fs') as typeof import('node:fs')
            const manager = new driftlock.PhaseLeaseManager(root)
            const tokens: number[] = []
            while (tokens.length < 25) {
              const { lease, reason } = await manager.acquireLease('T', 'SPEC')
              if (!lease) {
                if (reason?.startsWith('Internal error')) throw new Error(reason)
                await sleep(Math.random() * 4)
                continue
              }
              fs.closeSync(fs.openSync(inside, 'wx')) // fails if somebody else is in here
              tokens.push(lease.fencing_token)
              await sleep(0)
              fs.unlinkSync(inside)
              if (!(await manager.releaseLease('T', 'SPEC'))) throw new Error('lost the lease')
            }
            return tokens
          },
          { root, inside: join(root, 'inside') },
        ),
      ),
    )
    expect(new Set(outcomes.flat()).size).toBe(100)
    for (const tokens of outcomes) expect(tokens).toEqual([...tokens].sort((a, b) => a - b))
  })

  test('release and acquire of one key at the same time never come back as an internal error', async () => {
    const root = makeWorkspace()
    const [one, two] = (await Peer.startMany(2)) as [Peer, Peer]
    const turn = async (
      { driftlock }: { driftlock: typeof import('../index.js') },
      root: string,
    ): Promise<string[]> => {
      const manager = new driftlock.PhaseLeaseManager(root)
      const reasons = new Set<string>()
      for (let i = 0; i < 400; i++) {
        const { acquired, reason } = await manager.acquireLease('T', 'SPEC')
        if (acquired) await manager.releaseLease('T', 'SPEC')
        else reasons.add(reason ?? '')
      }
      return [...reasons]
    }
    const reasons = (await Promise.all([one.run(turn, root), two.run(turn, root)])).flat()
    expect(reasons.filter((reason) => reason !== HELD)).toEqual([])
  })

  test('see at once what another one did', async () => {
    const root = makeWorkspace()
    const manager = openLeases(root, { agentId: 'shared' })
    // Of a server's leases a process knows by itself only those that it was granted.
    const holds = () => (onServer ? manager.holdsLeaseAsync('T', 'SPEC') : manager.holdsLease('T', 'SPEC'))
    const peer = await Peer.start()
    await peer.run(({ driftlock, kept }, root: string) => {
      kept.manager = new driftlock.PhaseLeaseManager(root, { agentId: 'shared' })
    }, root)
    for (let i = 0; i < 10; i++) {
      await peer.run(({ kept }) => kept.manager.acquireLease('T', 'SPEC'))
      expect(await holds()).toBe(true)
      expect((await manager.renewLease('T', 'SPEC')).renewed).toBe(true)
      expect(await peer.run(({ kept }) => kept.manager.getLeaseAsync('T', 'SPEC'))).toMatchObject({ renewed_count: 1 })
      expect(await peer.run(({ kept }) => kept.manager.releaseLease('T', 'SPEC') as Promise<boolean>)).toBe(true)
      expect(await manager.getLeaseAsync('T', 'SPEC')).toBeNull()
      expect(await manager.renewLease('T', 'SPEC')).toMatchObject({ renewed: false, reason: NOT_HELD })
    }
  })

  test('the lease of a killed one expires, and the next holder has a higher token', async () => {
    const root = makeWorkspace()
    const peer = await Peer.start()
    const lost = await peer.run(async ({ driftlock }, root: string) => {
      const manager = new driftlock.PhaseLeaseManager(root, { agentId: 'victim', leaseDuration: 0.8 })
      return (await manager.acquireLease('T', 'SPEC')).lease
    }, root)
    await peer.kill()
    const { lease } = await until(async () => {
      const result = await openLeases(root, { agentId: 'heir' }).acquireLease('T', 'SPEC')
      if (!result.acquired) expect(result).toMatchObject({ reason: HELD, holder: 'victim' })
      return result.acquired ? result : null
    }, 'the lease is free')
    expect(lease?.fencing_token).toBeGreaterThan(lost?.fencing_token ?? Infinity)
  })

  test('a process killed amid its writes leaves a sound database', async () => {
    const root = makeWorkspace()
    const manager = openLeases(root)
    for (let round = 0; round < 3; round++) {
      const peer = await Peer.start()
      const busy = peer.run(async ({ driftlock }, root: string) => {
        const manager = new driftlock.PhaseLeaseManager(root, { agentId: `victim-${process.pid}` })
        for (let i = 0; ; i++) await manager.acquireLease(`T-${process.pid}-${i}`, 'SPEC')
      }, root)
      busy.catch(() => {})
      await until(() => manager.getLeaseAsync(`T-${peer.pid}-50`, 'SPEC'), 'it is in full swing')
      await peer.kill()
      expect((await manager.acquireLease(`after-${round}`, 'SPEC')).acquired).toBe(true)
    }
    if (!onServer) expect(openDatabase(root).pragma('integrity_check', { simple: true })).toBe('ok')
  })

  test('a host name becomes part of the agent id, or unknown', async () => {
    for (const [HOSTNAME, expected] of [
      ['box-7', 'box-7'],
      [undefined, 'unknown'],
      ['', 'unknown'],
    ] as const) {
      const peer = await Peer.start({ HOSTNAME })
      const id = await peer.run(async ({ driftlock }, root: string) => {
        const manager = new driftlock.PhaseLeaseManager(root)
        return (await manager.acquireLease(`T-${process.pid}`, 'SPEC')).lease?.agent_id
      }, makeWorkspace())
      expect(id).toMatch(new RegExp(`^${expected}-${peer.pid}-[0-9a-f]{8}$`))
    }
  })
})

describe.skipIf(onServer)('while another process holds the write lock', () => {
  /** Another process that takes the write lock now and gives it back after `ms`. */
  async function lockFor(root: string, ms: number): Promise<{ ended: Promise<number> }> {
    const peer = await Peer.start()
    await peer.run(({ Database, kept }, path: string) => {
      kept.db = new Database(path)
      kept.db.exec('BEGIN IMMEDIATE')
    }, databasePath(root))
    const ended = peer.run(async ({ kept, sleep }, ms: number) => {
      await sleep(ms)
      const now = Date.now()
      kept.db.exec('COMMIT')
      return now
    }, ms)
    ended.catch(() => {})
    return { ended }
  }

  test('calls wait, the event loop turns, and the answers come when it ends', async () => {
    const root = makeWorkspace()
    const manager = openLeases(root, { agentId: 'me' })
    await manager.acquireLease('HELD', 'SPEC')
    await manager.acquireLease('GONE', 'SPEC')
    const lock = await lockFor(root, 1000)
    const ticks = countTicks()
    const answers = await Promise.all([
      manager.acquireLease('T', 'SPEC').then((answer) => ({ ...answer, at: Date.now() })),
      manager.renewLease('HELD', 'SPEC'),
      manager.releaseLease('GONE', 'SPEC'),
      manager.acquireLease('T', 'SPEC'),
    ])
    const turned = ticks.stop()
    expect(answers).toMatchObject([{ acquired: true }, { renewed: true }, true, { acquired: false, reason: HELD }])
    expect(answers[0].at).toBeGreaterThanOrEqual((await lock.ended) - 1)
    // 200 turns fit into that second; a loop that stands still has a handful.
    expect(turned).toBeGreaterThan(50)
  })

  test('reading does not wait', async () => {
    const root = makeWorkspace()
    const manager = openLeases(root, { agentId: 'me' })
    const { lease } = await manager.acquireLease('T', 'SPEC')
    const lock = await lockFor(root, 1000)
    expect(manager.holdsLease('T', 'SPEC')).toBe(true)
    expect(manager.getLease('T', 'SPEC')).toEqual(lease)
    const read = Date.now()
    expect(read).toBeLessThanOrEqual(await lock.ended)
  })

  test('after five seconds they give up, and all is well again afterwards', { timeout: 40_000 }, async () => {
    const root = makeWorkspace()
    const manager = openLeases(root, { agentId: 'me' })
    await manager.acquireLease('HELD', 'SPEC')
    const lock = await lockFor(root, 8000)
    const ticks = countTicks()
    const asked = Date.now()
    const answers = await Promise.all([
      manager.acquireLease('T', 'SPEC'),
      manager.renewLease('HELD', 'SPEC'),
      manager.releaseLease('HELD', 'SPEC'),
      manager.releaseAllLeases(),
    ])
    const waited = Date.now() - asked
    const busy = 'Internal error: database is locked'
    expect(answers).toMatchObject([{ acquired: false, reason: busy }, { renewed: false, reason: busy }, false, 0])
    expect(waited).toBeGreaterThan(4500)
    expect(Date.now()).toBeLessThanOrEqual(await lock.ended)
    expect(ticks.stop()).toBeGreaterThan(300)
    expect((await manager.acquireLease('T', 'SPEC')).acquired).toBe(true)
    expect(manager.holdsLease('HELD', 'SPEC')).toBe(true)
  })

  test('a second manager opens all the same', async () => {
    const root = makeWorkspace()
    openLeases(root, { agentId: 'one' })
    await lockFor(root, 600)
    const manager = new PhaseLeaseManager(root, { agentId: 'two' })
    expect((await manager.acquireLease('T', 'SPEC')).acquired).toBe(true)
    manager.close()
  })
})
