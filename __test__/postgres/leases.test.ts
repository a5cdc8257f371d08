import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { inspect } from 'node:util'
import { describe, expect, test } from 'vitest'
import { fencedWriteFile, LeaseError, PhaseLeaseManager } from '../../index.js'
import { codeOf, failure, outputPath } from '../helpers/fences.js'
import { freePort, PASSWORD, query, urlAt } from '../helpers/postgres.js'
import { INTERNAL, ISO_MS, UUID } from '../helpers/shapes.js'
import { newUrl, postgresPort } from '../helpers/stores.js'
import { until } from '../helpers/wait.js'
import { databasePath, makeWorkspace, openLeases } from '../helpers/workspace.js'

/** No password, and no user, in what is shown. */
const expectClean = (text: string): void => expect(text).not.toMatch(new RegExp(`${PASSWORD}|wr0ng|postgres@|ada`))

describe('opening', () => {
  test('connects to nothing, and makes the schema with the first call', async () => {
    const root = makeWorkspace()
    const unreachable = urlAt(await freePort(), 'x')
    openLeases(root, { store: unreachable }).close()
    expect(readdirSync(root)).toEqual([])
    const store = newUrl()
    const manager = openLeases(root, { store })
    const schemas = () =>
      query(postgresPort, `SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'test ${process.pid} %'`)
    const before = schemas()
    expect((await manager.acquireLease('T', 'SPEC')).acquired).toBe(true)
    expect(Number(schemas())).toBe(Number(before) + 1)
    expect(existsSync(databasePath(root))).toBe(false)
  })

  test('what is no store is refused before anything is touched, without repeating it', () => {
    const root = makeWorkspace()
    const wrong: unknown[] = [
      7,
      null,
      {},
      '',
      'SQLite',
      'mysql://ada:wr0ng@h/d',
      'postgres://ada:wr0ng#/?@h:x/d',
      'postgres://ada:wr0ng@h/d?sslmode=maybe',
      `postgres://ada:wr0ng@h/d?schema=${'x'.repeat(64)}`,
    ]
    for (const store of wrong) {
      const error = (() => {
        try {
          return new PhaseLeaseManager(root, { store: store as string })
        } catch (error) {
          return error as Error
        }
      })()
      expect(error).toBeInstanceOf(LeaseError)
      expect(error).toMatchObject({
        code: 'INVALID_ARGUMENT',
        message: expect.stringMatching(/^store must be 'sqlite' or/),
      })
      expectClean(inspect(error))
    }
    expect(readdirSync(root)).toEqual([])
  })

  test('DRIFTLOCK_STORE counts for those who say nothing; sqlite says something', async () => {
    const root = makeWorkspace()
    process.env.DRIFTLOCK_STORE = newUrl()
    expect(openLeases(root).store).toMatch(/^postgres:\/\/127/)
    expect(openLeases(root, { store: undefined }).store).toMatch(/^postgres:\/\/127/)
    const local = openLeases(root, { store: 'sqlite' })
    expect(local.store).toBe('sqlite')
    await local.acquireLease('T', 'SPEC')
    expect(await openLeases(root).getLeaseAsync('T', 'SPEC')).toBeNull()
    process.env.DRIFTLOCK_STORE = ''
    expect(openLeases(root).holdsLease('T', 'SPEC')).toBe(false)
    expect(openLeases(root).getLease('T', 'SPEC')).not.toBeNull()
    process.env.DRIFTLOCK_STORE = 'postgres://ada:wr0ng#@h:x/d'
    const error = await failure((async () => new PhaseLeaseManager(root))())
    expect(error).toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringMatching(/^DRIFTLOCK_STORE must be/),
    })
    expectClean(inspect(error))
  })

  test.each([
    ['a wrong password', (url: string) => url.replace(PASSWORD, 'wr0ng'), 'SERVER', /check user and password/],
    ['a wrong database', (url: string) => url.replace('/postgres?', '/nowhere?'), 'SERVER', /create the database/],
    ['no server', (url: string) => url.replace(/:\d+\//, ':1/'), 'SERVER_UNREACHABLE', /look whether the server runs/],
  ])('%s is told with what to do, and without credentials', async (_, change, code, advice) => {
    const manager = openLeases(makeWorkspace(), { store: change(newUrl()) })
    // One behind the other: the second does not wait as long again.
    const [error, refused] = await Promise.all([failure(manager.listLeases()), manager.acquireLease('T', 'SPEC')])
    expect(error).toBeInstanceOf(LeaseError)
    expect(error).toMatchObject({ code, message: expect.stringMatching(advice) })
    expect(error?.message).toContain('postgres://127.0.0.1:')
    expectClean(inspect(error))
    expect(refused).toMatchObject({ acquired: false, reason: expect.stringMatching(INTERNAL) })
    expectClean(inspect([refused, manager]))
    const start = performance.now()
    manager.close()
    // It may wait for a moment, but not for what will not come.
    expect(performance.now() - start).toBeLessThan(5000)
  })
})

test('what answers at once says what it can’t, and knows what this process holds', async () => {
  const root = makeWorkspace()
  const manager = openLeases(root, { agentId: 'me', leaseDuration: 0.3 })
  expect(manager.holdsLease('T', 'SPEC')).toBe(false)
  await manager.acquireLease('T', 'SPEC')
  expect(manager.holdsLease('T', 'SPEC')).toBe(true)
  expect(() => manager.getLease('T', 'SPEC')).toThrow(LeaseError)
  expect(await codeOf((async () => manager.getLease('T', 'SPEC'))())).toBe('WOULD_BLOCK')
  expect((await failure((async () => manager.getLease('T', 'SPEC'))()))?.message).toContain('getLeaseAsync()')
  await until(() => !manager.holdsLease('T', 'SPEC'), 'it has ended')
  await openLeases(root, { agentId: 'other' })
    .acquireLease('T', 'SPEC')
    .catch(() => {})
  expect(manager.holdsLease('T', 'SPEC')).toBe(false)
  manager.close()
  expect(manager.getLease('T', 'SPEC')).toBeNull()
})

test('health tells where the server is and how', async () => {
  const root = makeWorkspace()
  const manager = openLeases(root)
  const health = await manager.health()
  expect(health).toEqual({
    store: 'postgres',
    server: manager.store,
    serverVersion: expect.stringMatching(/^\d+/),
    schemaVersion: expect.any(Number),
    databaseBytes: expect.any(Number),
    clock: 'server',
    clockAheadMs: expect.any(Number),
  })
  expect(health.databaseBytes).toBeGreaterThan(0)
  expectClean(inspect(health))
  manager.close()
  expect(await codeOf(manager.health())).toBe('CLOSED')
})

test('the event loop turns while the server makes calls wait', async () => {
  const manager = openLeases(makeWorkspace())
  await manager.acquireLease('T', 'SPEC')
  const asked = Promise.all(Array.from({ length: 50 }, (_, i) => manager.acquireLease(`T${i}`, 'SPEC')))
  const turn = new Promise((resolve) => setImmediate(() => resolve('a turn')))
  expect(await Promise.race([asked, turn])).toBe('a turn')
  expect((await asked).every(({ acquired }) => acquired)).toBe(true)
})

describe('a fence', () => {
  test('names the server, and is checked by whoever knows how to get in', async () => {
    const root = makeWorkspace()
    const store = newUrl()
    process.env.DRIFTLOCK_STORE = 'sqlite'
    const manager = openLeases(root, { store })
    const { fence } = await manager.hold('T', 'SPEC')
    expect(fence).toEqual({
      workspace: root,
      store: manager.store,
      taskId: 'T',
      phase: 'SPEC',
      token: expect.any(Number),
      leaseId: expect.stringMatching(UUID),
    })
    expectClean(JSON.stringify(fence))
    // The workspace may be elsewhere on another machine.
    await manager.checkFence({ ...fence, workspace: '/elsewhere' })
    await fencedWriteFile(outputPath(root), 'by a manager’s store', fence)
    const other = openLeases(root, { store: newUrl() })
    expect(await codeOf(other.checkFence(fence))).toBe('INVALID_ARGUMENT')
    expect(await codeOf(openLeases(root).checkFence(fence))).toBe('INVALID_ARGUMENT')
    expect(await codeOf(manager.checkFence({ ...fence, store: undefined }))).toBe('INVALID_ARGUMENT')
  })

  test('of a store that this process does not know says what to do', async () => {
    const root = makeWorkspace()
    process.env.DRIFTLOCK_STORE = 'sqlite'
    const store = 'postgres://ada:wr0ng@db.example:5432/agents?schema=driftlock'
    for (const place of [store, store.replace('ada:wr0ng@', '')]) {
      const fence = { workspace: root, store: place, taskId: 'T', phase: 'SPEC', token: 1, leaseId: 'none' }
      const error = await failure(fencedWriteFile(outputPath(root), 'x', fence))
      expect(error).toMatchObject({ code: 'INVALID_ARGUMENT', message: expect.stringMatching(/set DRIFTLOCK_STORE/) })
      expectClean(String(error?.message))
    }
    expect(readdirSync(root)).toEqual([])
  })
})

test('a lease says when it ends, by the server’s clock', async () => {
  const manager = openLeases(makeWorkspace(), { leaseDuration: 100 })
  const held = await manager.hold('T', 'SPEC')
  expect(held.expiresAt).toMatch(ISO_MS)
  expect(held.remainingMs()).toBeGreaterThan(50_000)
  expect(await held.release()).toBe(true)
  expect(await manager.getLeaseAsync('T', 'SPEC')).toBeNull()
})

test('of a workspace there is only what shows on this machine who is alive', async () => {
  const root = makeWorkspace()
  const manager = openLeases(root)
  await manager.acquireLease('T', 'SPEC')
  expect(readdirSync(join(root, 'state/postgres/lease-holders'))).toHaveLength(1)
  manager.close()
  expect(readdirSync(join(root, 'state/postgres'))).toEqual([])
})
