import { mkdirSync, rmSync } from 'node:fs'
import { hostname } from 'node:os'
import { describe, expect, test } from 'vitest'
import { jsonOf, runCli, startCli, workspaceWithJournals } from './helpers/cli.js'
import { Peer } from './helpers/peer.js'
import { sleep, until } from './helpers/wait.js'
import { ledgerPath, makeWorkspace, openLeases, readLines } from './helpers/workspace.js'

/** Another process that holds SPEC of a task, with a second agent in it that waits for it. */
async function holderAndWaiter(root: string): Promise<Peer> {
  const peer = await Peer.start()
  await peer.run(async ({ driftlock, kept }, root) => {
    const holder = new driftlock.PhaseLeaseManager(root, { agentId: 'holder', leaseDuration: 3600 })
    const waiter = new driftlock.PhaseLeaseManager(root, { agentId: 'waiter' })
    await holder.acquireLease('TASK-1', 'SPEC')
    kept.managers = [holder, waiter]
    kept.waiting = waiter.hold('TASK-1', 'SPEC', { waitMs: 60_000 }).catch(() => {})
  }, root)
  return peer
}

describe('status', () => {
  test('tells who holds what, who waits, drift, and the ledger’s head', async () => {
    const root = await workspaceWithJournals()
    const peer = await holderAndWaiter(root)
    const own = openLeases(root, { agentId: 'late', leaseDuration: 0.05 })
    await own.acquireLease('TASK-2', 'PLAN')
    await sleep(60)
    const value = await until(async () => {
      const { value } = await jsonOf(root, 'status')
      return value.totals.waiters === 1 && value
    }, 'somebody waits')
    expect(value.totals).toMatchObject({ active: 1, expired: 1, waiters: 1 })
    expect(value.database).toMatchObject({ state: 'ok', wal: true, oldSchema: false })
    const [held, ended] = value.leases
    expect(held).toMatchObject({
      taskId: 'TASK-1',
      phase: 'SPEC',
      agentId: 'holder',
      pid: peer.pid,
      host: hostname(),
      expired: false,
      waiters: 1,
    })
    expect(held.remainingMs).toBeGreaterThan(3_000_000)
    expect(ended).toMatchObject({ taskId: 'TASK-2', agentId: 'late', expired: true, remainingMs: 0 })
    expect(value.drift).toMatchObject({
      state: 'ok',
      attestations: 6,
      all: { low: 1, medium: 1, high: 1, unknown: 0 },
      last24h: { low: 1, medium: 1, high: 1, unknown: 0 },
    })
    const last = readLines(ledgerPath(root)).at(-1)
    expect(value.ledger).toMatchObject({ state: 'ok', entries: 2, lastHash: last.entry_hash })
    expect(value.ledger.last[0]).toMatchObject({ taskId: 'TASK-1', fromPhase: 'SPEC', toPhase: 'IMPLEMENT' })
    expect(value.problems).toEqual([])

    const { stdout } = await runCli(['status', '-w', root])
    expect(stdout).toMatch(/^LEASES {2}1 held, 1 expired, 1 waiting;/m)
    expect(stdout).toMatch(new RegExp(`^TASK-1 +SPEC +holder +\\S+ +${peer.pid} .* 1$`, 'm'))
    expect(stdout).toMatch(/^TASK-2 +PLAN +late .* expired +0$/m)
    expect(stdout).toMatch(/^last 24 h +1 +1 +1 +0$/m)
    expect(stdout).toContain('last: TASK-1  SPEC → IMPLEMENT')
    expect(stdout).toContain(`hash: ${last.entry_hash}`)
    expect(stdout).toContain('nothing wrong at a glance')
  })

  test('says what is not there yet', async () => {
    const root = makeWorkspace()
    openLeases(root)
    const { stdout, code } = await runCli(['status', '-w', root])
    expect(code).toBe(0)
    expect(stdout).toContain('no attestations yet')
    expect(stdout).toContain('no ledger yet')
    expect((await runCli(['status', '-w', await workspaceWithJournals()])).stdout).toContain('no database yet')
  })

  test('shows the rest if a part can’t be read, and fails', async () => {
    const root = await workspaceWithJournals()
    rmSync(ledgerPath(root))
    mkdirSync(ledgerPath(root))
    const { value, code } = await jsonOf(root, 'status')
    expect(code).toBe(3)
    expect(value.ledger).toMatchObject({ state: 'failed', error: { code: 'EISDIR' } })
    expect(value.drift.state).toBe('ok')
    expect(value.problems).toEqual([expect.stringContaining("can't read the ledger")])
    expect((await runCli(['status', '-w', root])).stdout).toMatch(/^LEDGER {2}can't be read: EISDIR/m)
  })

  test('--watch shows changes until it is told to end', async () => {
    const root = makeWorkspace()
    const manager = openLeases(root, { agentId: 'me' })
    const watch = startCli(['status', '--watch', '0.1', '-w', root])
    await until(() => watch.output().includes('0 held'), 'it shows none')
    await manager.acquireLease('TASK-1', 'SPEC')
    await until(() => /^TASK-1 +SPEC +me/m.test(watch.output()), 'it shows the lease')
    watch.child.kill('SIGINT')
    expect(await watch.ended).toBe(0)
    expect(watch.errors()).toBe('')
  })
})

describe('leases', () => {
  test('list has all, and how many wait', async () => {
    const root = makeWorkspace()
    await holderAndWaiter(root)
    const leases = await until(async () => {
      const { value } = await jsonOf(root, 'leases', 'list')
      return value.leases[0]?.waiters === 1 && value.leases
    }, 'somebody waits')
    expect(leases).toHaveLength(1)
    expect(leases[0]).toMatchObject({
      taskId: 'TASK-1',
      phase: 'SPEC',
      agentId: 'holder',
      fencingToken: expect.any(Number),
    })
    expect((await runCli(['leases', 'list', '-w', root])).stdout).toMatch(/^TASK-1 +SPEC +holder /m)
  })

  test('release ends a lease of another process, and records who and why', async () => {
    const root = makeWorkspace()
    const manager = openLeases(root, { agentId: 'stuck' })
    const lease = await manager.hold('TASK-1', 'SPEC')
    const args = ['leases', 'release', 'TASK-1', 'SPEC', '--force', '--by', 'ann', '--reason', 'it hangs', '-w', root]
    const { stdout, code } = await runCli(args)
    expect(code).toBe(0)
    expect(stdout).toMatch(/^released TASK-1 SPEC, which stuck held since 2/)
    await until(() => lease.signal.aborted, 'the holder knows')
    expect(manager.getLease('TASK-1', 'SPEC')).toBeNull()
    const { value } = await jsonOf(root, 'leases', 'events')
    expect(value).toMatchObject({
      total: 1,
      events: [{ kind: 'forced-release', taskId: 'TASK-1', agentId: 'stuck', by: 'ann', reason: 'it hangs' }],
    })
    const again = await runCli(args)
    expect(again.code).toBe(1)
    expect(again.stdout).toContain('nobody holds TASK-1 SPEC')
  })

  test('a task whose name looks like a number stays a name', async () => {
    const root = makeWorkspace()
    const manager = openLeases(root)
    await manager.acquireLease('007', '1e3')
    const { code } = await runCli([
      'leases',
      'release',
      '007',
      '1e3',
      '--force',
      '--by',
      '1',
      '--reason',
      '2',
      '-w',
      root,
    ])
    expect(code).toBe(0)
    expect(manager.getLease('007', '1e3')).toBeNull()
  })

  test('events are limited to the last ones, and followed', async () => {
    const root = makeWorkspace()
    const manager = openLeases(root, { agentId: 'me' })
    const endOne = async (task: string): Promise<void> => {
      await manager.acquireLease(task, 'SPEC')
      await manager.forceRelease(task, 'SPEC', { by: 'ann', reason: 'test' })
    }
    for (const task of ['A', 'B', 'C']) await endOne(task)
    const { value } = await jsonOf(root, 'leases', 'events', '--limit', '2')
    expect(value.total).toBe(3)
    expect(value.events.map(({ taskId }: { taskId: string }) => taskId)).toEqual(['B', 'C'])
    const follow = startCli(['leases', 'events', '--follow', '--json', '--limit', '1', '-w', root])
    await until(() => follow.output().includes('\n'), 'it shows the last one')
    await endOne('D')
    await until(() => follow.output().split('\n').length > 2, 'it shows the new one')
    const tasks = follow
      .output()
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line).taskId as string)
    expect(tasks).toEqual(['C', 'D'])
    follow.child.kill('SIGTERM')
    expect(await follow.ended).toBe(0)
  })
})
