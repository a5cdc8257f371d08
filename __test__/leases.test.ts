import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { PhaseLeaseManager, type WorkPhase } from '../index.js'
import { HELD, INTERNAL, ISO_MS, NOT_HELD, UUID } from './helpers/shapes.js'
import { onServer } from './helpers/stores.js'
import { sleep, until } from './helpers/wait.js'
import { databasePath, makeWorkspace, openDatabase, openLeases } from './helpers/workspace.js'

const SHORT = 0.15

describe('opening', () => {
  test.runIf(!onServer)('makes the state folder and the database', () => {
    const root = makeWorkspace()
    openLeases(root)
    const db = openDatabase(root)
    expect(db.pragma('journal_mode', { simple: true })).toBe('wal')
    expect(db.pragma('user_version', { simple: true })).toBe(0)
    const columns = db.prepare('SELECT name FROM pragma_table_info(?)').pluck().all('phase_leases')
    expect(columns).toEqual(
      expect.arrayContaining([
        'lease_id',
        'task_id',
        'phase',
        'agent_id',
        'acquired_at',
        'expires_at',
        'renewed_count',
      ]),
    )
  })

  test.runIf(!onServer)('throws where there can be no database', () => {
    const root = makeWorkspace()
    writeFileSync(join(root, 'state'), 'a file')
    expect(() => new PhaseLeaseManager(root)).toThrow()
    expect(() => new PhaseLeaseManager(join(root, 'state'))).toThrow()
  })

  test.runIf(!onServer)('throws on a file that is no database, and leaves it alone', () => {
    const root = makeWorkspace()
    mkdirSync(join(root, 'state'))
    const text = 'this is no database, and was never one; '.repeat(200)
    writeFileSync(databasePath(root), text)
    expect(() => new PhaseLeaseManager(root)).toThrow()
    expect(readFileSync(databasePath(root), 'utf8')).toBe(text)
  })

  test('an agent id of its own names host and process, and differs from manager to manager', async () => {
    const root = makeWorkspace()
    const ids = new Set<string>()
    for (const phase of ['SPEC', 'PLAN'] as const) {
      const { lease } = await openLeases(root).acquireLease('T', phase)
      const host = process.env.HOSTNAME || 'unknown'
      expect(lease?.agent_id.startsWith(`${host}-${process.pid}-`)).toBe(true)
      expect(lease?.agent_id).toMatch(/-[0-9a-f]{8}$/)
      ids.add(lease?.agent_id ?? '')
    }
    expect(ids.size).toBe(2)
  })

  test('explicit undefined is the default, unknown options are ignored', async () => {
    const options = { leaseDuration: undefined, maxRenewals: undefined, agentId: undefined, colour: 'red' }
    const { lease } = await openLeases(makeWorkspace(), options).acquireLease('T', 'SPEC')
    expect(Date.parse(lease?.expires_at ?? '') - Date.parse(lease?.acquired_at ?? '')).toBe(300_000)
  })
})

describe('acquiring', () => {
  test('gives the lease', async () => {
    const manager = openLeases(makeWorkspace(), { agentId: 'me', leaseDuration: 60 })
    const before = Date.now()
    const { acquired, lease, reason } = await manager.acquireLease('TASK-1', 'IMPLEMENT')
    expect({ acquired, reason }).toEqual({ acquired: true, reason: undefined })
    expect(lease).toMatchObject({ task_id: 'TASK-1', phase: 'IMPLEMENT', agent_id: 'me', renewed_count: 0 })
    expect(lease?.lease_id).toMatch(UUID)
    expect(lease?.acquired_at).toMatch(ISO_MS)
    expect(lease?.expires_at).toMatch(ISO_MS)
    expect(Date.parse(lease?.acquired_at ?? '')).toBeGreaterThanOrEqual(before - 1)
    expect(Date.parse(lease?.acquired_at ?? '')).toBeLessThanOrEqual(Date.now() + 1)
    expect(Date.parse(lease?.expires_at ?? '') - Date.parse(lease?.acquired_at ?? '')).toBe(60_000)
    expect(await manager.getLeaseAsync('TASK-1', 'IMPLEMENT')).toEqual(lease)
    expect(manager.holdsLease('TASK-1', 'IMPLEMENT')).toBe(true)
  })

  test('fractions of a second count', async () => {
    const { lease } = await openLeases(makeWorkspace(), { leaseDuration: 1.25 }).acquireLease('T', 'SPEC')
    expect(Date.parse(lease?.expires_at ?? '') - Date.parse(lease?.acquired_at ?? '')).toBe(1250)
  })

  test('refuses what another agent holds, and says who and for how long', async () => {
    const root = makeWorkspace()
    await openLeases(root, { agentId: 'first', leaseDuration: 100 }).acquireLease('T', 'SPEC')
    const other = openLeases(root, { agentId: 'second' })
    const refused = await other.acquireLease('T', 'SPEC')
    expect(refused).toMatchObject({ acquired: false, reason: HELD, holder: 'first' })
    expect(refused.lease).toBeUndefined()
    expect(Number.isInteger(refused.expiresIn)).toBe(true)
    expect(refused.expiresIn).toBeLessThanOrEqual(100)
    expect(refused.expiresIn).toBeGreaterThan(80)
    expect(other.holdsLease('T', 'SPEC')).toBe(false)
    expect((await other.getLeaseAsync('T', 'SPEC'))?.agent_id).toBe('first')
  })

  test('refuses what this agent holds already', async () => {
    const manager = openLeases(makeWorkspace(), { agentId: 'me', leaseDuration: 0.9 })
    const first = await manager.acquireLease('T', 'SPEC')
    expect(await manager.acquireLease('T', 'SPEC')).toMatchObject({
      acquired: false,
      reason: HELD,
      holder: 'me',
      expiresIn: 0,
    })
    expect(await manager.getLeaseAsync('T', 'SPEC')).toEqual(first.lease)
  })

  test('task and phase together are the key; any string is a phase', async () => {
    const manager = openLeases(makeWorkspace())
    for (const [task, phase] of [
      ['A', 'SPEC'],
      ['A', 'PLAN'],
      ['B', 'SPEC'],
      ['a', 'SPEC'],
      ['A ', 'SPEC'],
      ['A', 'DANCE'],
    ] as const)
      expect((await manager.acquireLease(task, phase as WorkPhase)).acquired).toBe(true)
  })

  test('of many at once exactly one wins', async () => {
    const root = makeWorkspace()
    const managers = Array.from({ length: 10 }, (_, i) => openLeases(root, { agentId: `agent-${i}` }))
    const results = await Promise.all(managers.map((manager) => manager.acquireLease('T', 'SPEC')))
    const winners = results.flatMap(({ lease }) => (lease ? [lease.agent_id] : []))
    expect(winners).toHaveLength(1)
    for (const result of results)
      if (!result.acquired) expect(result).toMatchObject({ reason: HELD, holder: winners[0] })
  })
})

describe('expiry', () => {
  test('an expired lease is held by nobody, but still to be seen', async () => {
    const manager = openLeases(makeWorkspace(), { leaseDuration: SHORT })
    const { lease } = await manager.acquireLease('T', 'SPEC')
    await until(async () => !(await manager.holdsLeaseAsync('T', 'SPEC')), 'it expires')
    expect(Date.now()).toBeGreaterThanOrEqual(Date.parse(lease?.expires_at ?? '') - 1)
    expect(await manager.getLeaseAsync('T', 'SPEC')).toEqual(lease)
  })

  test('it is anyone’s to acquire, its former owner’s too', async () => {
    const root = makeWorkspace()
    const owner = openLeases(root, { agentId: 'owner', leaseDuration: SHORT })
    const other = openLeases(root, { agentId: 'other', leaseDuration: SHORT })
    const first = await owner.acquireLease('T', 'SPEC')
    await until(async () => !(await owner.holdsLeaseAsync('T', 'SPEC')), 'it expires')
    const second = await owner.acquireLease('T', 'SPEC')
    expect(second.acquired).toBe(true)
    expect(second.lease?.lease_id).not.toBe(first.lease?.lease_id)
    await until(async () => !(await owner.holdsLeaseAsync('T', 'SPEC')), 'it expires again')
    expect((await other.acquireLease('T', 'SPEC')).acquired).toBe(true)
    expect(await owner.renewLease('T', 'SPEC')).toMatchObject({ renewed: false, reason: NOT_HELD })
    expect(await owner.releaseLease('T', 'SPEC')).toBe(false)
    expect((await other.getLeaseAsync('T', 'SPEC'))?.agent_id).toBe('other')
  })

  test('it stays its owner’s, to renew or to release, until somebody acquires that key', async () => {
    const root = makeWorkspace()
    const owner = openLeases(root, { agentId: 'owner', leaseDuration: SHORT })
    const { lease } = await owner.acquireLease('T', 'SPEC')
    await owner.acquireLease('T', 'PLAN')
    await until(async () => !(await owner.holdsLeaseAsync('T', 'PLAN')), 'both expire')
    // Acquiring another key used to delete all expired leases.
    expect((await openLeases(root, { agentId: 'other' }).acquireLease('X', 'SPEC')).acquired).toBe(true)
    const renewal = await owner.renewLease('T', 'SPEC')
    expect(renewal.renewed).toBe(true)
    expect(await owner.getLeaseAsync('T', 'SPEC')).toMatchObject({
      lease_id: lease?.lease_id,
      acquired_at: lease?.acquired_at,
      renewed_count: 1,
    })
    expect(owner.holdsLease('T', 'SPEC')).toBe(true)
    expect(await owner.releaseLease('T', 'PLAN')).toBe(true)
  })

  test.runIf(!onServer)('a row that has been dead for days is swept away, one dead for a minute is not', async () => {
    const root = makeWorkspace()
    openLeases(root).close()
    const insert = openDatabase(root).prepare(
      'INSERT INTO phase_leases (lease_id, task_id, phase, agent_id, acquired_at, expires_at, renewed_count) VALUES (?, ?, ?, ?, ?, ?, 0)',
    )
    const ago = (seconds: number): string => new Date(Date.now() - seconds * 1000).toISOString()
    insert.run('b3e36fd8-61d0-4fa5-9ea5-000000000001', 'DEAD', 'SPEC', 'gone', ago(700_000), ago(600_000))
    insert.run('b3e36fd8-61d0-4fa5-9ea5-000000000002', 'LATE', 'SPEC', 'late', ago(400), ago(60))
    const manager = openLeases(root, { agentId: 'late' })
    await until(async () => (await manager.getLeaseAsync('DEAD', 'SPEC')) === null, 'the dead row is swept')
    expect((await manager.renewLease('LATE', 'SPEC')).renewed).toBe(true)
  })
})

describe('renewing', () => {
  test('moves the expiry and nothing else', async () => {
    const manager = openLeases(makeWorkspace(), { leaseDuration: 50 })
    const { lease } = await manager.acquireLease('T', 'SPEC')
    await sleep(20)
    const before = Date.now()
    const renewal = await manager.renewLease('T', 'SPEC')
    expect(renewal).toMatchObject({ renewed: true })
    expect(renewal.reason).toBeUndefined()
    expect(renewal.expiresAt).toMatch(ISO_MS)
    expect(Date.parse(renewal.expiresAt ?? '')).toBeGreaterThanOrEqual(before + 49_999)
    expect(Date.parse(renewal.expiresAt ?? '')).toBeLessThanOrEqual(Date.now() + 50_001)
    expect(await manager.getLeaseAsync('T', 'SPEC')).toEqual({
      ...lease,
      expires_at: renewal.expiresAt,
      renewed_count: 1,
    })
  })

  test.each([0, 1, 3])('stops after %i renewals', async (maxRenewals) => {
    const manager = openLeases(makeWorkspace(), { maxRenewals })
    await manager.acquireLease('T', 'SPEC')
    for (let i = 0; i < maxRenewals; i++) expect((await manager.renewLease('T', 'SPEC')).renewed).toBe(true)
    const refused = await manager.renewLease('T', 'SPEC')
    expect(refused).toMatchObject({ renewed: false, reason: `Max renewals (${maxRenewals}) exceeded` })
    expect(refused.expiresAt).toBeUndefined()
    expect((await manager.getLeaseAsync('T', 'SPEC'))?.renewed_count).toBe(maxRenewals)
    expect(manager.holdsLease('T', 'SPEC')).toBe(true)
  })

  test('ten renewals unless told otherwise', async () => {
    const manager = openLeases(makeWorkspace())
    await manager.acquireLease('T', 'SPEC')
    const results = await Promise.all(Array.from({ length: 11 }, () => manager.renewLease('T', 'SPEC')))
    expect(results.map(({ renewed }) => renewed)).toEqual([...Array<boolean>(10).fill(true), false])
    expect(results[10]?.reason).toBe('Max renewals (10) exceeded')
  })

  test('needs the lease', async () => {
    const root = makeWorkspace()
    const manager = openLeases(root, { agentId: 'me' })
    await openLeases(root, { agentId: 'other' }).acquireLease('T', 'SPEC')
    for (const phase of ['SPEC', 'PLAN'] as const)
      expect(await manager.renewLease('T', phase)).toMatchObject({ renewed: false, reason: NOT_HELD })
  })
})

describe('releasing', () => {
  test('frees the key for the next one', async () => {
    const root = makeWorkspace()
    const [first, second] = [openLeases(root, { agentId: '1' }), openLeases(root, { agentId: '2' })]
    await first.acquireLease('T', 'SPEC')
    expect(await second.releaseLease('T', 'SPEC')).toBe(false)
    expect(await first.releaseLease('T', 'SPEC')).toBe(true)
    expect(await first.releaseLease('T', 'SPEC')).toBe(false)
    expect(await first.getLeaseAsync('T', 'SPEC')).toBeNull()
    expect((await second.acquireLease('T', 'SPEC')).acquired).toBe(true)
  })

  test('all of this agent’s, and of no other', async () => {
    const root = makeWorkspace()
    const [mine, others] = [openLeases(root, { agentId: '1' }), openLeases(root, { agentId: '2' })]
    for (const task of ['A', 'B', 'C']) await mine.acquireLease(task, 'SPEC')
    await others.acquireLease('D', 'SPEC')
    expect(await mine.releaseAllLeases()).toBe(3)
    expect(await mine.releaseAllLeases()).toBe(0)
    expect(await mine.getLeaseAsync('A', 'SPEC')).toBeNull()
    expect(others.holdsLease('D', 'SPEC')).toBe(true)
  })
})

describe('identity and order', () => {
  test('two managers with one agent id are one holder', async () => {
    const root = makeWorkspace()
    const [one, two] = [openLeases(root, { agentId: 'same' }), openLeases(root, { agentId: 'same' })]
    await one.acquireLease('T', 'SPEC')
    expect(two.holdsLease('T', 'SPEC')).toBe(true)
    expect(await two.acquireLease('T', 'SPEC')).toMatchObject({ acquired: false, reason: HELD, holder: 'same' })
    expect((await two.renewLease('T', 'SPEC')).renewed).toBe(true)
    expect((await one.getLeaseAsync('T', 'SPEC'))?.renewed_count).toBe(1)
    expect(await two.releaseLease('T', 'SPEC')).toBe(true)
    expect(one.holdsLease('T', 'SPEC')).toBe(false)
  })

  test('calls that nobody awaits take effect in their order', async () => {
    const manager = openLeases(makeWorkspace(), { agentId: 'me' })
    const round = (): Promise<unknown>[] => [
      manager.acquireLease('T', 'SPEC').then(({ acquired }) => acquired),
      manager.renewLease('T', 'SPEC').then(({ renewed }) => renewed),
      manager.acquireLease('T', 'SPEC').then(({ acquired }) => acquired),
      manager.releaseLease('T', 'SPEC'),
      manager.renewLease('T', 'SPEC').then(({ renewed }) => renewed),
    ]
    // Enough of them that not all can be done within one turn of the event loop.
    const answers = await Promise.all(Array.from({ length: 400 }, round).flat())
    for (let i = 0; i < answers.length; i += 5)
      expect(answers.slice(i, i + 5)).toEqual([true, true, false, true, false])
  })

  test('the asynchronous twins answer the same', async () => {
    const manager = openLeases(makeWorkspace())
    expect(await manager.holdsLeaseAsync('T', 'SPEC')).toBe(false)
    expect(await manager.getLeaseAsync('T', 'SPEC')).toBeNull()
    const { lease } = await manager.acquireLease('T', 'SPEC')
    expect(await manager.holdsLeaseAsync('T', 'SPEC')).toBe(true)
    expect(await manager.getLeaseAsync('T', 'SPEC')).toEqual(lease)
    if (!onServer) expect(manager.getLease('T', 'SPEC')).toEqual(lease)
  })
})

describe('after close()', () => {
  test('the leases live on', async () => {
    const root = makeWorkspace()
    const manager = openLeases(root, { agentId: 'gone' })
    await manager.acquireLease('T', 'SPEC')
    manager.close()
    expect(await openLeases(root).acquireLease('T', 'SPEC')).toMatchObject({ acquired: false, holder: 'gone' })
    expect(await openLeases(root, { agentId: 'gone' }).holdsLeaseAsync('T', 'SPEC')).toBe(true)
  })

  test('calls answer as on failure, and a second close does nothing', async () => {
    const manager = openLeases(makeWorkspace())
    await manager.acquireLease('T', 'SPEC')
    manager.close()
    manager.close()
    expect(await manager.acquireLease('X', 'SPEC')).toMatchObject({
      acquired: false,
      reason: expect.stringMatching(INTERNAL),
    })
    expect(await manager.renewLease('T', 'SPEC')).toMatchObject({
      renewed: false,
      reason: expect.stringMatching(INTERNAL),
    })
    expect(await manager.releaseLease('T', 'SPEC')).toBe(false)
    expect(await manager.releaseAllLeases()).toBe(0)
    expect(manager.holdsLease('T', 'SPEC')).toBe(false)
    expect(await manager.getLeaseAsync('T', 'SPEC')).toBeNull()
    expect(await manager.holdsLeaseAsync('T', 'SPEC')).toBe(false)
    expect(await manager.getLeaseAsync('T', 'SPEC')).toBeNull()
    expect(Object.values(await manager.getStats())).toEqual([0, 0, 0, 0, 0, 0])
  })

  test('what was asked before it is still answered', async () => {
    const root = makeWorkspace()
    const manager = openLeases(root, { agentId: 'me' })
    const asked = Array.from({ length: 50 }, (_, i) => manager.acquireLease(`T${i}`, 'SPEC'))
    manager.close()
    const answers = await Promise.all(asked)
    const other = openLeases(root, { agentId: 'me' })
    for (const [i, { acquired }] of answers.entries())
      expect(await other.holdsLeaseAsync(`T${i}`, 'SPEC')).toBe(acquired)
  })

  test('one manager’s close leaves the others of the workspace open', async () => {
    const root = makeWorkspace()
    const [one, two] = [openLeases(root), openLeases(root)]
    one.close()
    expect((await two.acquireLease('T', 'SPEC')).acquired).toBe(true)
    expect((await openLeases(root).acquireLease('T', 'PLAN')).acquired).toBe(true)
  })
})
