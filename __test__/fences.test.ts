import { existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import {
  AttestationError,
  type Fence,
  fencedWriteFile,
  LeaseError,
  LedgerError,
  PhaseLedger,
  PromptAttestationManager,
} from '../index.js'
import { acquire, codeOf, failure, files, outputPath, PHASE, placeOf, TASK, takeOver } from './helpers/fences.js'
import { Peer } from './helpers/peer.js'
import { expectRejected, makeSpec } from './helpers/shapes.js'
import { onServer } from './helpers/stores.js'
import { sleep, until } from './helpers/wait.js'
import {
  attestationsPath,
  baselinesPath,
  databasePath,
  ledgerPath,
  makeWorkspace,
  openLeases,
} from './helpers/workspace.js'

/** Those of the files that have anything in them. */
const filled = (paths: string[]): string[] => paths.filter((path) => existsSync(path) && statSync(path).size > 0)

/** All that a fence guards: how it is written, what it rejects with, and the files of this machine that it writes. */
const writers: Record<
  string,
  {
    write(root: string, fence: Fence): Promise<unknown>
    kind: new (...parameters: never[]) => Error
    written(root: string): string[]
  }
> = {
  'an attestation': {
    write: (root, fence) => new PromptAttestationManager(root).attest(makeSpec(), { fence }),
    kind: AttestationError,
    written: (root) => (onServer ? [] : [attestationsPath(root), baselinesPath(root)]),
  },
  'a transition': {
    write: (root, fence) => new PhaseLedger(root).appendTransition(TASK, 'THINK', PHASE, [], true, { fence }),
    kind: LedgerError,
    written: (root) => (onServer ? [] : [ledgerPath(root)]),
  },
  'a file': {
    write: (root, fence) => fencedWriteFile(outputPath(root), 'content', fence),
    kind: LeaseError,
    written: (root) => [outputPath(root)],
  },
}

describe('checkFence', () => {
  test('resolves while the lease is the newest one, expired or not', async () => {
    const manager = openLeases(makeWorkspace(), { leaseDuration: 0.1 })
    const fence = await acquire(manager)
    expect(await manager.checkFence(fence)).toBeUndefined()
    await until(async () => !(await manager.holdsLeaseAsync(TASK, PHASE)), 'it has expired')
    expect(await manager.checkFence(fence)).toBeUndefined()
    await manager.renewLease(TASK, PHASE)
    expect(await manager.checkFence(fence)).toBeUndefined()
  })

  test('rejects after a take-over, and names the newer holder', async () => {
    const root = makeWorkspace()
    const manager = openLeases(root, { leaseDuration: 0.05 })
    const heir = openLeases(root, { agentId: 'heir' })
    const old = await acquire(manager)
    await until(async () => (await heir.acquireLease(TASK, PHASE)).acquired, 'it has expired')
    const error = await failure(manager.checkFence(old))
    expect(error).toBeInstanceOf(LeaseError)
    expect(error?.code).toBe('FENCED')
    for (const part of ['heir', TASK, PHASE, (await heir.getLeaseAsync(TASK, PHASE))?.lease_id]) {
      expect(error?.message).toContain(part)
    }
    await heir.releaseLease(TASK, PHASE)
    expect(await codeOf(manager.checkFence(old))).toBe('FENCED')
  })

  test('rejects after a release, also if the same agent has acquired it again', async () => {
    const manager = openLeases(makeWorkspace())
    const old = await acquire(manager)
    await manager.releaseLease(TASK, PHASE)
    expect(await codeOf(manager.checkFence(old))).toBe('FENCED')
    const fence = await acquire(manager)
    expect(await codeOf(manager.checkFence(old))).toBe('FENCED')
    expect(await manager.checkFence(fence)).toBeUndefined()
  })

  test('rejects for a token or an id that is not the lease’s', async () => {
    const manager = openLeases(makeWorkspace())
    const fence = await acquire(manager)
    expect(await codeOf(manager.checkFence({ ...fence, token: fence.token + 1 }))).toBe('FENCED')
    expect(await codeOf(manager.checkFence({ ...fence, leaseId: 'another' }))).toBe('FENCED')
    expect(await codeOf(manager.checkFence({ ...fence, taskId: 'never acquired' }))).toBe('FENCED')
  })

  test('a held lease’s fence is plain data', async () => {
    const manager = openLeases(makeWorkspace())
    const held = await manager.hold(TASK, PHASE)
    expect(held.fence).toEqual({
      ...placeOf(manager),
      taskId: TASK,
      phase: PHASE,
      leaseId: held.leaseId,
      token: expect.any(Number),
    })
    expect(await manager.checkFence(JSON.parse(JSON.stringify(held.fence)))).toBeUndefined()
    await held.release()
    expect(await codeOf(manager.checkFence(held.fence))).toBe('FENCED')
  })
})

describe.each(Object.entries(writers))('%s with a fence', (_, { write, kind, written }) => {
  test('is written while the lease is the newest one, expired or not', async () => {
    const root = makeWorkspace()
    const manager = openLeases(root, { leaseDuration: 0.05 })
    const fence = await acquire(manager)
    await write(root, fence)
    expect(filled(written(root))).toEqual(written(root))
    for (const path of written(root)) rmSync(path)
    await until(async () => !(await manager.holdsLeaseAsync(TASK, PHASE)), 'it has expired')
    await write(root, fence)
    expect(filled(written(root))).toEqual(written(root))
  })

  test('is refused after a take-over and after a release, and nothing has changed', async () => {
    const root = makeWorkspace()
    const manager = openLeases(root)
    const fence = await acquire(manager)
    await write(root, fence)
    const lost = [fence]
    lost.push(await takeOver(root))
    await write(root, lost[1] as Fence)
    await openLeases(root, { agentId: 'heir' }).releaseLease(TASK, PHASE)
    const before = files(root)
    for (const fence of lost) {
      const error = await failure(write(root, fence))
      expect(error).toBeInstanceOf(kind)
      expect(error?.code).toBe('FENCED')
    }
    expect(files(root)).toEqual(before)
  })

  test('is refused where nothing was written before, and leaves nothing', async () => {
    const root = makeWorkspace()
    const fence = await acquire(openLeases(root))
    await takeOver(root)
    const error = await failure(write(root, fence))
    expect(error).toBeInstanceOf(kind)
    expect(error?.message).toContain('heir')
    expect(filled(written(root))).toEqual([])
    expect(Object.keys(files(root)).filter((path) => path.endsWith('.tmp'))).toEqual([])
  })

  test('is refused for a fence that is none', async () => {
    const root = makeWorkspace()
    const fence = await acquire(openLeases(root))
    const before = files(root)
    const wrong: [unknown, string][] = [
      ['fence', 'fence'],
      [[fence], 'fence'],
      [null, 'fence'],
      [{}, 'token'],
      ...[-1, 1.5, NaN, Infinity, '1', 1n, null, undefined].map((token): [unknown, string] => [
        { ...fence, token },
        'token',
      ]),
      [{ ...fence, leaseId: 7 }, 'leaseId'],
      [{ ...fence, taskId: undefined }, 'taskId'],
      [{ ...fence, phase: null }, 'phase'],
      [{ ...fence, workspace: '' }, 'workspace'],
      [{ ...fence, workspace: 'a\0b' }, 'workspace'],
    ]
    for (const [fence, argument] of wrong) {
      await expectRejected(() => write(root, fence as Fence), argument, kind)
    }
    expect(files(root)).toEqual(before)
  })

  test.runIf(!onServer)('is refused if the fence can’t be checked', async () => {
    const damage: ((root: string) => void)[] = [
      (root) => writeFileSync(databasePath(root), 'garbage '.repeat(1000)),
      (root) => rmSync(databasePath(root)),
      (root) => rmSync(join(root, 'state'), { recursive: true }),
    ]
    for (const [i, destroy] of damage.entries()) {
      const root = makeWorkspace()
      const manager = openLeases(root)
      const fence = await acquire(manager)
      if (i === 0) manager.close()
      destroy(root)
      for (const isOpen of [true, false]) {
        if (!isOpen) manager.close()
        const error = await failure(write(root, fence))
        expect(error).toBeInstanceOf(kind)
        expect(error?.code).toBe('DATABASE')
        expect(filled(written(root))).toEqual([])
        expect(readdirSync(root).filter((name) => name !== 'state')).toEqual([])
      }
    }
  })
})

test.runIf(!onServer)(
  'a fenced write of each kind is refused while another process keeps the database locked',
  async () => {
    const root = makeWorkspace()
    const fence = await acquire(openLeases(root))
    const peer = await Peer.start()
    await peer.run(({ Database, kept }, path: string) => {
      kept.db = new Database(path)
      kept.db.exec('BEGIN IMMEDIATE')
    }, databasePath(root))
    const all = Object.values(writers)
    expect(await Promise.all(all.map(({ write }) => codeOf(write(root, fence))))).toEqual(
      all.map(() => 'DATABASE_LOCKED'),
    )
    const written = all.flatMap(({ written }) => written(root))
    expect(filled(written)).toEqual([])
    await peer.run(({ kept }) => kept.db.exec('COMMIT'))
    for (const { write } of all) await write(root, fence)
    expect(filled(written)).toEqual(written)
  },
)

test('a missing database is not made by a fenced write', async () => {
  const root = makeWorkspace()
  const fence = { workspace: root, taskId: TASK, phase: PHASE, token: 1, leaseId: 'none' }
  expect(await codeOf(fencedWriteFile(outputPath(root), 'content', fence))).toBeTruthy()
  expect(readdirSync(root)).toEqual([])
})

test('a fence of another task or phase is refused', async () => {
  const root = makeWorkspace()
  const manager = openLeases(root)
  const ledger = new PhaseLedger(root)
  const attestations = new PromptAttestationManager(root)
  const others = [await acquire(manager, 'TASK-2', PHASE), await acquire(manager, TASK, 'THINK')]
  const before = files(root)
  for (const fence of others) {
    const transition = () => ledger.appendTransition(TASK, 'THINK', PHASE, [], true, { fence })
    await expectRejected(transition, 'fence', LedgerError)
    await expectRejected(() => attestations.attest(makeSpec(), { fence }), 'fence', AttestationError)
  }
  expect(Object.keys(files(root)).filter((path) => !(path in before) && !path.includes('lease-holders'))).toEqual([])
})

test('a fenced attestation and transition are what they are without', async () => {
  const root = makeWorkspace()
  const fence = await acquire(openLeases(root))
  const attestations = new PromptAttestationManager(root)
  const ledger = new PhaseLedger(root)
  expect((await attestations.attest(makeSpec(), { fence })).hasDrift).toBe(false)
  expect((await attestations.attest(makeSpec({ requirements: ['else'] }), { fence })).hasDrift).toBe(true)
  const metadata = { agentType: 'coder', durationMs: 5, personaHash: 'p' }
  const entry = await ledger.appendTransition(TASK, 'THINK', PHASE, ['a'], true, { ...metadata, fence })
  await ledger.appendTransition(TASK, PHASE, 'VERIFY', [], false)
  expect(await ledger.verify()).toMatchObject({ valid: true })
  expect((await ledger.getTaskHistory(TASK))[0]).toEqual(entry)
  expect(Object.keys(entry).filter((name) => /fence|lease|token/.test(name))).toEqual([])
  expect(await attestations.getAttestationHistory(TASK)).toHaveLength(2)
})

test('another process writes with it, without a manager of its own', async () => {
  const root = makeWorkspace()
  const manager = openLeases(root, { agentId: 'me' })
  const held = await manager.hold(TASK, PHASE)
  const peer = await Peer.start()
  const write = () =>
    peer.run(
      async ({ driftlock }, { root, path, fence, spec }) => {
        const { PhaseLedger, PromptAttestationManager, fencedWriteFile } = driftlock
        const { taskId, phase } = fence
        const answers = await Promise.allSettled([
          fencedWriteFile(path, 'by another process', fence),
          new PhaseLedger(root).appendTransition(taskId, null, phase, [], true, { fence }),
          new PromptAttestationManager(root).attest(spec, { fence }),
        ])
        return answers.map((answer) => (answer.status === 'rejected' ? answer.reason.code : 'written'))
      },
      { root, path: outputPath(root), fence: held.fence, spec: makeSpec() },
    )
  expect(await write()).toEqual(['written', 'written', 'written'])
  expect(readFileSync(outputPath(root), 'utf8')).toBe('by another process')
  await held.release()
  writeFileSync(outputPath(root), 'kept')
  expect(await write()).toEqual(['FENCED', 'FENCED', 'FENCED'])
  expect(readFileSync(outputPath(root), 'utf8')).toBe('kept')
  expect((await new PhaseLedger(root).getStats()).totalEntries).toBe(1)
  expect((await new PromptAttestationManager(root).getDriftStats()).totalAttestations).toBe(1)
})

describe('a holder that goes on', () => {
  test.each(['expiry', 'forced release'])('writes nothing after a take-over by %s', async (how) => {
    const root = makeWorkspace()
    const path = outputPath(root)
    const peer = await Peer.start()
    for (let round = 0; round < (onServer ? 4 : 20); round++) {
      const task = `T${round}`
      rmSync(path, { force: true })
      const refusals = peer.run(
        async ({ driftlock }, { root, path, task, leaseDuration }) => {
          const manager = new driftlock.PhaseLeaseManager(root, { agentId: 'old', leaseDuration })
          const { lease } = await manager.acquireLease(task, 'SPEC')
          if (!lease) throw new Error('the lease is not free')
          const { fencing_token: token, lease_id: leaseId } = lease
          const fence = { workspace: root, store: manager.store, taskId: task, phase: 'SPEC', token, leaseId }
          let refusals = 0
          const write = async (name: string): Promise<void> => {
            for (let i = 0; refusals < 20; i++) {
              try {
                // Those that began before may still be under way.
                const before = refusals
                await driftlock.fencedWriteFile(path, `old ${name} ${i}`, fence)
                if (before > 0) throw new Error('a write has passed after a refusal')
              } catch (error) {
                if ((error as { code?: string }).code !== 'FENCED') throw error
                refusals++
              }
            }
          }
          await Promise.all(['a', 'b', 'c'].map(write))
          manager.close()
          return refusals
        },
        { root, path, task, leaseDuration: how === 'expiry' ? 0.1 : 300 },
      )
      refusals.catch(() => {})
      await until(() => existsSync(path), 'it writes')
      const heir = openLeases(root, { agentId: 'heir' })
      const fence =
        how === 'expiry'
          ? await until(() => acquire(heir, task, 'SPEC').catch(() => null), 'it has expired')
          : await takeOver(root, task, 'SPEC')
      const last = readFileSync(path, 'utf8')
      await sleep(Math.random() * 4)
      expect(readFileSync(path, 'utf8')).toBe(last)
      await fencedWriteFile(path, 'new', fence)
      expect(await refusals).toBeGreaterThanOrEqual(20)
      expect(readFileSync(path, 'utf8')).toBe('new')
    }
  })

  test('after a pause it overwrites its heir’s file without the fence, and is refused with it', async () => {
    const root = makeWorkspace()
    const paths = { plain: join(root, 'plain'), fenced: join(root, 'fenced') }
    const peer = await Peer.start()
    await peer.run(async ({ driftlock, kept }, root: string) => {
      const manager = new driftlock.PhaseLeaseManager(root, { agentId: 'paused', leaseDuration: 0.6 })
      kept.held = await manager.hold('T', 'SPEC')
    }, root)
    peer.child.kill('SIGSTOP')
    const writes = peer.run(({ driftlock, require, kept }, { plain, fenced }) => {
      const { writeFileSync } = require('node:fs') as typeof import('node:fs')
      writeFileSync(plain, 'of the paused one')
      return driftlock.fencedWriteFile(fenced, 'of the paused one', kept.held.fence)
    }, paths)
    writes.catch(() => {})
    const heir = await openLeases(root, { agentId: 'heir' }).hold('T', 'SPEC', { waitMs: 20_000 })
    writeFileSync(paths.plain, 'of the heir')
    await fencedWriteFile(paths.fenced, 'of the heir', heir.fence)
    peer.child.kill('SIGCONT')
    await expect(writes).rejects.toMatchObject({ code: 'FENCED', message: expect.stringContaining('heir') })
    expect(readFileSync(paths.plain, 'utf8')).toBe('of the paused one')
    expect(readFileSync(paths.fenced, 'utf8')).toBe('of the heir')
    await until(() => peer.run(({ kept }) => kept.held.signal.aborted as boolean), 'it is told')
    expect(await peer.run(({ kept }) => kept.held.signal.reason.code as string)).toBe('LEASE_LOST')
    expect(heir.signal.aborted).toBe(false)
  })
})
