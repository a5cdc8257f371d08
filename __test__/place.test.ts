import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, onTestFinished, test } from 'vitest'
import {
  AttestationError,
  type DatabaseHealth,
  LeaseError,
  LedgerError,
  type LogEvent,
  PhaseLeaseManager,
  PhaseLedger,
  PromptAttestationManager,
  setLogger,
} from '../index.js'
import { Peer } from './helpers/peer.js'
import { makeSpec } from './helpers/shapes.js'
import { until } from './helpers/wait.js'
import { databasePath, makeWorkspace, openDatabase, openLeases } from './helpers/workspace.js'

afterEach(() => setLogger(null))

describe('health', () => {
  test('tells how the database is and where', async () => {
    const root = makeWorkspace()
    const leases = openLeases(root)
    await leases.acquireLease('T', 'SPEC')
    const health = (await leases.health()) as DatabaseHealth
    expect(health).toMatchObject({
      store: 'sqlite',
      databasePath: databasePath(root),
      wal: true,
      oldSchema: false,
      clock: process.platform === 'linux' ? 'boot' : 'wall',
    })
    expect(health.databaseBytes).toBeGreaterThan(0)
    expect(health.logBytes).toBeGreaterThan(0)
    const { name, kind, locksExclude } = health.fileSystem
    expect(name).not.toBe('')
    expect(locksExclude).toBe({ local: true, overlay: true, network: false, unknown: undefined }[kind])
  })

  test('sees the table of the old code', async () => {
    const root = makeWorkspace()
    mkdirSync(join(root, 'state'))
    openDatabase(
      root,
    ).exec(`CREATE TABLE phase_leases (lease_id TEXT PRIMARY KEY, task_id TEXT NOT NULL, phase TEXT NOT NULL,
      agent_id TEXT NOT NULL, acquired_at TEXT NOT NULL, expires_at TEXT NOT NULL, renewed_count INTEGER NOT NULL DEFAULT 0,
      UNIQUE(task_id, phase))`)
    expect(await openLeases(root).health()).toMatchObject({ oldSchema: true })
  })

  test('rejects after close', async () => {
    const leases = openLeases(makeWorkspace())
    leases.close()
    const error = await leases.health().catch((error: unknown) => error)
    expect(error).toBeInstanceOf(LeaseError)
    expect(error).toMatchObject({ code: 'CLOSED' })
  })
})

describe('networkFileSystem', () => {
  const classes = [
    ['PhaseLeaseManager', PhaseLeaseManager, LeaseError],
    ['PromptAttestationManager', PromptAttestationManager, AttestationError],
    ['PhaseLedger', PhaseLedger, LedgerError],
  ] as const

  test.each(classes)('%s takes warn and refuse only', (_, Class, ErrorClass) => {
    const root = makeWorkspace()
    for (const value of ['', 'no', 'Refuse', null, true, 1]) {
      const make = (): unknown => new Class(root, { networkFileSystem: value as 'warn' })
      expect(make).toThrow(ErrorClass)
      expect(make).toThrow(/networkFileSystem must be 'warn' or 'refuse'/)
    }
    expect(readdirSync(root)).toEqual([])
  })

  test('a local workspace is not refused', async () => {
    const root = makeWorkspace()
    const options = { networkFileSystem: 'refuse' } as const
    openLeases(root, options)
    await new PromptAttestationManager(root, options).initialize()
    await new PhaseLedger(root, options).initialize()
  })

  test('a workspace on FUSE is warned of once, or refused', async ({ skip }) => {
    const root = makeWorkspace()
    const [below, mounted] = [join(root, 'below'), join(root, 'mounted')]
    mkdirSync(below)
    mkdirSync(mounted)
    if (spawnSync('bindfs', [below, mounted]).status !== 0) skip('not run: bindfs is not installed, or may not mount')
    onTestFinished(() => {
      // Lazily: attestations and the ledger have no close(), and may still have files open there.
      execFileSync('umount', ['-l', mounted])
    })
    const refuse = { networkFileSystem: 'refuse' } as const
    expect(() => new PhaseLeaseManager(mounted, refuse)).toThrow(
      expect.objectContaining({ code: 'NETWORK_FILE_SYSTEM' }),
    )
    for (const store of [new PromptAttestationManager(mounted, refuse), new PhaseLedger(mounted, refuse)]) {
      await expect(store.initialize()).rejects.toMatchObject({ code: 'NETWORK_FILE_SYSTEM' })
    }
    expect(readdirSync(below)).toEqual([])

    const events: LogEvent[] = []
    setLogger((event) => events.push(event))
    await new PromptAttestationManager(mounted).initialize()
    await new PhaseLedger(mounted).initialize()
    await new PhaseLedger(mounted).initialize()
    await until(() => events.length > 0, 'there is a warning')
    expect(events).toHaveLength(1)
    expect(events[0]).toMatchObject({ level: 'warning', code: 'NETWORK_FILE_SYSTEM', file_system: 'fuse' })
  })
})

describe('workspaces', () => {
  test('two of them never mix', async () => {
    const [one, two] = [makeWorkspace(), makeWorkspace()]
    const [a, b] = [openLeases(one, { agentId: 'a' }), openLeases(two, { agentId: 'b' })]
    expect((await a.acquireLease('T', 'SPEC')).acquired).toBe(true)
    expect((await b.acquireLease('T', 'SPEC')).acquired).toBe(true)
    await new PromptAttestationManager(one).attest(makeSpec())
    await new PhaseLedger(one).appendTransition('T', null, 'SPEC', [], true)
    expect((await new PromptAttestationManager(two).getDriftStats()).totalAttestations).toBe(0)
    expect(await new PhaseLedger(two).exists()).toBe(false)
  })

  test('all names of one are one', async () => {
    const root = makeWorkspace()
    const [real, link] = [join(root, 'real'), join(root, 'link')]
    mkdirSync(real)
    symlinkSync(real, link)
    const names = [real, link, `${real}/`, `${link}//.`, join(root, 'link', '..', 'real')]
    const managers = names.map((name, agent) => openLeases(name, { agentId: `a${agent}` }))
    const answers = await Promise.all(managers.map((manager) => manager.acquireLease('T', 'SPEC')))
    expect(answers.filter(({ acquired }) => acquired)).toHaveLength(1)
    await Promise.all(
      names.flatMap((name) => [
        ...Array.from({ length: 20 }, () => new PhaseLedger(name).appendTransition('T', null, 'SPEC', [], true)),
        ...Array.from({ length: 20 }, (_, n) =>
          new PromptAttestationManager(name).attest(makeSpec({ taskId: `T${n}` })),
        ),
      ]),
    )
    expect(await new PhaseLedger(real).verify()).toEqual({ valid: true, entries_checked: 100 })
    expect(await new PromptAttestationManager(link).getDriftStats()).toMatchObject({
      totalAttestations: 100,
      driftDetections: 0,
    })
  })

  test('a relative one stays where it was when the process goes elsewhere', async () => {
    const root = makeWorkspace()
    const peer = await Peer.start()
    await peer.run(
      async ({ driftlock, require }, { root, spec }) => {
        const { mkdirSync } = require('node:fs') as typeof import('node:fs')
        mkdirSync(`${root}/here`)
        mkdirSync(`${root}/there`)
        process.chdir(root)
        const leases = new driftlock.PhaseLeaseManager('here')
        const prompts = new driftlock.PromptAttestationManager('here')
        const ledger = new driftlock.PhaseLedger('./here')
        process.chdir(`${root}/there`)
        await leases.acquireLease('T', 'SPEC')
        await prompts.attest(spec)
        await ledger.appendTransition('T', null, 'SPEC', [], true)
        leases.close()
      },
      { root, spec: makeSpec() },
    )
    expect(readdirSync(join(root, 'there'))).toEqual([])
    expect(readdirSync(root).sort()).toEqual(['here', 'there'])
    expect(existsSync(databasePath(join(root, 'here')))).toBe(true)
    expect(await new PhaseLedger(join(root, 'here')).verify()).toEqual({ valid: true, entries_checked: 1 })
  })
})
