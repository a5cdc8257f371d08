import {
  appendFileSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { describe, expect, onTestFinished, test } from 'vitest'
import { PhaseLedger, PromptAttestationManager, TelemetryRecorder } from '../index.js'
import {
  checkMetrics,
  counted,
  counterLine,
  countersPath,
  makeFolderOf,
  promtool,
  promtoolTitle,
  RunningExporter,
  runExporter,
  seriesOf,
  telemetryPath,
} from './helpers/exporter.js'
import { Peer } from './helpers/peer.js'
import { makeSpec } from './helpers/shapes.js'
import { sleep, until } from './helpers/wait.js'
import { databasePath, ledgerPath, makeWorkspace, openLeases, snapshot } from './helpers/workspace.js'

const SKIPS = 'driftlock_phase_skips_total'
const MALFORMED = 'driftlock_malformed_lines_total{file="counters"}'

/** Appends `count` skips, numbered so that no two lines are alike. */
let lines = 0
const append = (path: string, count: number): void => {
  makeFolderOf(path)
  appendFileSync(path, Array.from({ length: count }, () => counterLine('phase_skips_attempted', ++lines)).join(''))
}

/** An exporter whose first scrape has happened. */
async function scraped(root: string, ...options: string[]): Promise<RunningExporter> {
  const exporter = await RunningExporter.start(root, ...options)
  await exporter.text()
  return exporter
}

describe('what is counted', () => {
  test('each event, from its own file, by closed lists of labels', async () => {
    const root = makeWorkspace()
    const exporter = await scraped(root)
    const recorder = new TelemetryRecorder(root)
    await recorder.recordCounter('evidence_gate_passed', 3, { phase: 'SPEC' })
    await recorder.recordCounter('evidence_gate_failed')
    await recorder.recordCounter('phase_validations_passed')
    await recorder.recordCounter('phase_validations_failed', 2)
    await recorder.recordCounter('phase_skips_attempted')
    await recorder.recordCounter('prompt_drift_detected', 1, { severity: 'high' })
    await recorder.recordCounter('of-my-own"\n', 0.5)
    appendFileSync(countersPath(root), '{"name":"phase_lease_contention","value":4,"timestamp":"t","tags":{"a":"b"}}\n')
    const attestations = new PromptAttestationManager(root)
    await attestations.initialize()
    await attestations.attest(makeSpec({ phase: 'VERIFY', personaHash: 'p' }))
    await attestations.attest(makeSpec({ phase: 'VERIFY', personaHash: 'q', contextSummary: 'other' }))
    await attestations.attest(makeSpec({ phase: 'HOME_MADE' as 'VERIFY' }))
    const ledger = new PhaseLedger(root)
    await ledger.initialize()
    await ledger.appendTransition('T', null, 'SPEC', [], true)
    await ledger.appendTransition('T', 'SPEC', 'HOME_MADE', [], true)
    appendFileSync(ledgerPath(root), 'garbage\n')
    expect(counted(await exporter.scrape())).toEqual({
      'driftlock_evidence_gates_total{result="passed"}': 3,
      'driftlock_evidence_gates_total{result="failed"}': 1,
      'driftlock_phase_validations_total{result="passed"}': 1,
      'driftlock_phase_validations_total{result="failed"}': 2,
      [SKIPS]: 1,
      'driftlock_recorded_total{counter="evidence_gate_passed"}': 3,
      'driftlock_recorded_total{counter="evidence_gate_failed"}': 1,
      'driftlock_recorded_total{counter="phase_lease_contention"}': 4,
      'driftlock_recorded_total{counter="prompt_drift_detected"}': 1,
      'driftlock_recorded_total{counter="phase_skips_attempted"}': 1,
      'driftlock_recorded_total{counter="phase_validations_passed"}': 1,
      'driftlock_recorded_total{counter="phase_validations_failed"}': 2,
      'driftlock_recorded_total{counter="other"}': 0.5,
      'driftlock_attestations_total{phase="VERIFY",severity="none"}': 1,
      'driftlock_attestations_total{phase="VERIFY",severity="high"}': 1,
      'driftlock_attestations_total{phase="other",severity="none"}': 1,
      'driftlock_drift_total{phase="VERIFY",dimension="prompt",severity="high"}': 1,
      'driftlock_drift_total{phase="VERIFY",dimension="persona",severity="high"}': 1,
      'driftlock_ledger_entries_total{phase="SPEC"}': 1,
      'driftlock_ledger_entries_total{phase="other"}': 1,
      'driftlock_malformed_lines_total{file="ledger"}': 1,
    })
  })

  test('leases, from all processes, and how they are now', async () => {
    const root = makeWorkspace()
    const exporter = await scraped(root)
    const peers = await Peer.startMany(2)
    for (const [i, peer] of peers.entries())
      await peer.run(
        async ({ driftlock }, { root, i }) => {
          const manager = new driftlock.PhaseLeaseManager(root)
          await manager.acquireLease('shared', 'SPEC')
          await manager.acquireLease(`own${i}`, 'SPEC')
          await manager.renewLease(`own${i}`, 'SPEC')
          if (i === 0) await manager.releaseLease('own0', 'SPEC')
          manager.close()
        },
        { root, i },
      )
    const series = await exporter.scrape()
    expect(counted(series)).toMatchObject({
      'driftlock_lease_acquisitions_total{result="acquired"}': 3,
      'driftlock_lease_acquisitions_total{result="contended"}': 1,
      'driftlock_lease_renewals_total{result="renewed"}': 2,
      driftlock_lease_holds_total: 1,
    })
    expect(series).toMatchObject({
      'driftlock_leases{state="active"}': 2,
      'driftlock_leases{state="expired"}': 0,
      driftlock_lease_waiters: 0,
      driftlock_store_up: 1,
    })
    expect(series.driftlock_lease_oldest_age_seconds).toBeGreaterThan(0)
  })

  test('a database that cannot be read is told, and its last totals stay', async () => {
    const root = makeWorkspace()
    const leases = openLeases(root)
    await leases.acquireLease('T', 'SPEC')
    leases.close()
    const exporter = await scraped(root)
    const acquired = 'driftlock_lease_acquisitions_total{result="acquired"}'
    expect(await exporter.scrape()).toMatchObject({ driftlock_store_up: 1, [acquired]: 1 })
    for (const suffix of ['-wal', '-shm', '']) {
      if (existsSync(databasePath(root) + suffix))
        renameSync(databasePath(root) + suffix, `${databasePath(root)}.old${suffix}`)
    }
    writeFileSync(databasePath(root), 'this is no database'.repeat(1000))
    expect(await exporter.scrape()).toMatchObject({ driftlock_store_up: 0, [acquired]: 1 })
    const health = await fetch(`${exporter.url}/healthz`)
    expect(health.status).toBe(503)
    expect(((await health.json()) as { problems: string[] }).problems.join()).toContain('orchestrator.db')
  })

  test('exact totals while 4 processes append, in both ways, and the file is rotated', async () => {
    const root = makeWorkspace()
    const exporter = await scraped(root)
    makeFolderOf(countersPath(root))
    const peers = await Peer.startMany(4)
    const work = peers.map((peer, number) =>
      peer.run(
        async ({ driftlock, require, sleep }, { root, path, number }) => {
          const { appendFile } = require('node:fs/promises') as typeof import('node:fs/promises')
          const recorder = new driftlock.TelemetryRecorder(root)
          for (let i = 0; i < 600; i++) {
            const line = { timestamp: `${number}-${i}`, counter: 'phase_skips_attempted', value: 1, metadata: {} }
            if (number % 2 === 0) await recorder.recordCounter('phase_skips_attempted', 1, { number, i })
            else await appendFile(path, `${JSON.stringify(line)}\n`)
            if (i % 50 === 0) await sleep(10)
          }
        },
        { root, path: countersPath(root), number },
      ),
    )
    let rotations = 0
    const done = Promise.all(work).then(() => true)
    while (!(await Promise.race([done, sleep(25).then(() => false)]))) {
      if (existsSync(countersPath(root))) renameSync(countersPath(root), `${countersPath(root)}.${rotations++}`)
      await exporter.text()
    }
    expect(rotations).toBeGreaterThan(1)
    expect(await exporter.scrape()).toMatchObject({ [SKIPS]: 2400, [MALFORMED]: 0 })
  })
})

describe('files that change under it', () => {
  test('half a line is read when it is whole', async () => {
    const root = makeWorkspace()
    const exporter = await scraped(root)
    const line = counterLine('phase_skips_attempted', ++lines)
    append(countersPath(root), 1)
    appendFileSync(countersPath(root), line.slice(0, 30))
    expect(await exporter.scrape()).toMatchObject({ [SKIPS]: 1, 'driftlock_unread_bytes{file="counters"}': 30 })
    appendFileSync(countersPath(root), line.slice(30))
    expect(await exporter.scrape()).toMatchObject({ [SKIPS]: 2, 'driftlock_unread_bytes{file="counters"}': 0 })
  })

  test('a rotation by rename loses nothing, however far it was read', async () => {
    const root = makeWorkspace()
    append(countersPath(root), 1)
    const exporter = await scraped(root)
    append(countersPath(root), 10)
    const rotated = `${countersPath(root)}-20260101`
    renameSync(countersPath(root), rotated)
    append(rotated, 5)
    append(countersPath(root), 3)
    expect(await exporter.scrape()).toMatchObject({ [SKIPS]: 19 })
    // A process that still has the old file open, and copies of files, which are no new lines.
    append(rotated, 2)
    copyFileSync(countersPath(root), `${countersPath(root)}.bak`)
    expect(await exporter.scrape()).toMatchObject({ [SKIPS]: 21 })
  })

  test('rotations while no exporter runs lose nothing either', async () => {
    const root = makeWorkspace()
    append(countersPath(root), 1)
    const first = await scraped(root)
    await first.text()
    await first.end('SIGTERM')
    for (let i = 0; i < 3; i++) {
      append(countersPath(root), 10)
      renameSync(countersPath(root), `${countersPath(root)}.${i}`)
    }
    append(countersPath(root), 1)
    const second = await RunningExporter.start(root)
    expect(await second.scrape()).toMatchObject({ [SKIPS]: 32 })
  })

  test('a truncation is told once and counting goes on', async () => {
    const root = makeWorkspace()
    append(countersPath(root), 10)
    const exporter = await scraped(root)
    expect(await exporter.scrape()).toMatchObject({ [SKIPS]: 10 })
    truncateSync(countersPath(root))
    await until(async () => {
      const health = (await (await fetch(`${exporter.url}/healthz`)).json()) as { truncations: { counters: number } }
      return health.truncations.counters === 1
    }, 'the truncation is noticed')
    append(countersPath(root), 3)
    expect(await exporter.scrape()).toMatchObject({ [SKIPS]: 13 })
    expect(exporter.stderr.match(/was cut or overwritten/g)).toHaveLength(1)
  })

  test('damaged lines count as such and hide no others', async () => {
    const root = makeWorkspace()
    const exporter = await scraped(root)
    append(countersPath(root), 1)
    const bad = ['{"counter":"phase_skips', '[]', '7', '\0\0', '{"counter":"phase_skips_attempted","value":-1}', '\xff']
    appendFileSync(countersPath(root), `${bad.join('\n')}\n\n`, 'latin1')
    append(countersPath(root), 1)
    expect(await exporter.scrape()).toMatchObject({ [SKIPS]: 2, [MALFORMED]: bad.length })
  })

  test('a line longer than memory should hold is passed over', { timeout: 60_000 }, async () => {
    const root = makeWorkspace()
    const exporter = await scraped(root)
    append(countersPath(root), 1)
    for (let i = 0; i < 80; i++) appendFileSync(countersPath(root), ' '.repeat(1 << 20))
    appendFileSync(countersPath(root), '\n')
    append(countersPath(root), 1)
    expect(await exporter.scrape()).toMatchObject({ [SKIPS]: 2 })
  })
})

describe('start and end', () => {
  test('the first scrape shows every series at 0, the next what was before it', async () => {
    const root = makeWorkspace()
    append(countersPath(root), 7)
    const exporter = await RunningExporter.start(root)
    await sleep(250)
    const first = await exporter.scrape()
    expect(counted(first)).toEqual({})
    const series = Object.keys(first).filter((name) => /_total(\{|$)/.test(name))
    expect(series.length).toBeGreaterThan(200)
    expect(await exporter.scrape()).toMatchObject({ [SKIPS]: 7 })
    await exporter.end('SIGTERM')
    expect(await (await RunningExporter.start(root)).scrape()).toMatchObject({ [SKIPS]: 7 })
  })

  test('a health check or a HEAD is no scrape', async () => {
    const root = makeWorkspace()
    append(countersPath(root), 7)
    const exporter = await RunningExporter.start(root)
    expect(await (await fetch(`${exporter.url}/healthz`)).json()).toMatchObject({ ok: true, problems: [] })
    expect((await fetch(`${exporter.url}/metrics`, { method: 'HEAD' })).status).toBe(200)
    expect(await exporter.scrape()).toMatchObject({ [SKIPS]: 0 })
  })

  test('--from-now leaves out what was there', async () => {
    const root = makeWorkspace()
    append(countersPath(root), 7)
    const leases = openLeases(root)
    await leases.acquireLease('T', 'SPEC')
    leases.close()
    const exporter = await scraped(root, '--from-now')
    append(countersPath(root), 2)
    expect(counted(await exporter.scrape())).toEqual({
      [SKIPS]: 2,
      'driftlock_recorded_total{counter="phase_skips_attempted"}': 2,
    })
  })

  test('killed at any moment and started again: nothing twice, nothing lost', { timeout: 60_000 }, async () => {
    const root = makeWorkspace()
    append(countersPath(root), 1)
    const peer = await Peer.start()
    const writing = peer.run(async ({ driftlock, sleep }, root) => {
      const recorder = new driftlock.TelemetryRecorder(root)
      for (let i = 0; i < 200; i++) {
        await Promise.all(Array.from({ length: 20 }, () => recorder.recordCounter('phase_skips_attempted', 1, { i })))
        await sleep(15)
      }
    }, root)
    let kills = 0
    const done = writing.then(() => true)
    while (!(await Promise.race([done, sleep(1).then(() => false)]))) {
      const exporter = await RunningExporter.start(root)
      for (let i = 0; i < 5; i++) await exporter.text()
      await sleep(kills * 7)
      await exporter.kill()
      kills++
      if (kills % 3 === 0) renameSync(countersPath(root), `${countersPath(root)}.${kills}`)
    }
    expect(kills).toBeGreaterThan(2)
    const exporter = await scraped(root)
    expect(await exporter.scrape()).toMatchObject({ [SKIPS]: 4001, [MALFORMED]: 0 })
  })

  test('SIGTERM and SIGINT end it cleanly', async () => {
    const root = makeWorkspace()
    for (const signal of ['SIGTERM', 'SIGINT'] as const) {
      const exporter = await scraped(root)
      append(countersPath(root), 1)
      expect(await exporter.end(signal)).toBe(0)
      expect(exporter.stderr).toBe('')
    }
    expect(seriesOf((await runExporter(root, '--once')).stdout)).toMatchObject({ [SKIPS]: 2 })
  })

  test('there is one for a workspace; the second names the first', async () => {
    const root = makeWorkspace()
    const first = await scraped(root)
    const { code, stderr } = await runExporter(root, '--listen', '127.0.0.1:0')
    expect(code).toBe(3)
    expect(stderr).toContain(`process ${first.child.pid} `)
    await first.kill()
    await scraped(root)
  })

  test('a damaged state is put aside, and nothing is counted twice', async () => {
    const root = makeWorkspace()
    append(countersPath(root), 5)
    const first = await scraped(root)
    await first.end('SIGTERM')
    writeFileSync(
      telemetryPath(root, '.exporter.json'),
      readFileSync(telemetryPath(root, '.exporter.json')).subarray(0, 50),
    )
    const second = await scraped(root)
    append(countersPath(root), 1)
    expect(await second.scrape()).toMatchObject({ [SKIPS]: 1 })
    expect(second.stderr).toContain('put aside')
  })
})

describe('--once', () => {
  test('prints the true totals and writes nothing, also beside a running exporter', async () => {
    const root = makeWorkspace()
    append(countersPath(root), 7)
    const before = snapshot(root)
    const { code, stdout, stderr } = await runExporter(root, '--once')
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(seriesOf(stdout)).toMatchObject({ [SKIPS]: 7, driftlock_store_up: 1 })
    expect(snapshot(root)).toEqual(before)
    const exporter = await RunningExporter.start(root)
    append(countersPath(root), 1)
    expect(seriesOf((await runExporter(root, '--once')).stdout)).toMatchObject({ [SKIPS]: 8 })
    expect(await exporter.scrape()).toMatchObject({ [SKIPS]: 0 })
  })

  test('--json gives the families', async () => {
    const root = makeWorkspace()
    append(countersPath(root), 2)
    const families = JSON.parse((await runExporter(root, '--once', '--json')).stdout) as { name: string }[]
    expect(families.find(({ name }) => name === 'phase_skips_total')).toMatchObject({
      type: 'counter',
      samples: [{ labels: {}, value: 2 }],
    })
  })
})

describe('what goes wrong', () => {
  test('wrong usage: exit code 2, and nothing is made', async () => {
    const root = makeWorkspace()
    for (const options of [
      ['--listen', 'nowhere'],
      ['--listen', '127.0.0.1:99999'],
      ['--statsd', ':1'],
      ['--interval', '0'],
      ['--interval', 'soon'],
      ['--once', '--statsd', '127.0.0.1:8125'],
      ['--json'],
      ['--unknown'],
    ]) {
      const { code, stderr } = await runExporter(root, ...options)
      expect([options, code]).toEqual([options, 2])
      expect(stderr).toMatch(/^driftlock: /)
    }
    expect(snapshot(root)).toEqual({})
  })

  test('no workspace, a port in use, a file that cannot be read, a server without a name: exit code 3', async () => {
    const root = makeWorkspace()
    const missing = await runExporter(`${root}/missing`)
    expect([missing.code, missing.stderr]).toEqual([3, expect.stringContaining(`${root}/missing`)])

    const busy = createServer().listen(0, '127.0.0.1')
    onTestFinished(() => void busy.close())
    await until(() => busy.listening, 'the port is taken')
    const { port } = busy.address() as AddressInfo
    const taken = await runExporter(root, '--listen', `127.0.0.1:${port}`)
    expect([taken.code, taken.stderr]).toEqual([3, expect.stringContaining(`127.0.0.1:${port}`)])

    const nameless = await runExporter(root, '--statsd', 'no-such-host.invalid:8125')
    expect([nameless.code, nameless.stderr]).toEqual([3, expect.stringContaining('no-such-host.invalid')])

    mkdirSync(countersPath(root), { recursive: true })
    for (const option of [['--listen', '127.0.0.1:0'], ['--once']]) {
      const unreadable = await runExporter(root, ...option)
      expect([unreadable.code, unreadable.stderr]).toEqual([3, expect.stringContaining('counters.jsonl')])
    }
  })

  test('a file that cannot be read later: 503 with the reason, and the others are counted', async () => {
    const root = makeWorkspace()
    const exporter = await scraped(root)
    mkdirSync(ledgerPath(root), { recursive: true })
    append(countersPath(root), 1)
    const health = await fetch(`${exporter.url}/healthz`)
    expect(health.status).toBe(503)
    expect(((await health.json()) as { problems: string[] }).problems.join()).toContain('ledger.jsonl')
    expect(await exporter.scrape()).toMatchObject({ [SKIPS]: 1 })
    expect(exporter.stderr.match(/ledger\.jsonl/g)).toHaveLength(1)
  })

  test('beyond loopback it warns; other paths and methods are refused', async () => {
    const root = makeWorkspace()
    const exporter = await RunningExporter.start(root, '--listen', '0.0.0.0:0')
    await until(() => exporter.stderr.includes('whoever can reach 0.0.0.0'), 'it warns')
    const url = exporter.url.replace('0.0.0.0', '127.0.0.1')
    expect((await fetch(`${url}/nothing`)).status).toBe(404)
    expect((await fetch(`${url}/constructor`)).status).toBe(404)
    expect((await fetch(`${url}/metrics`, { method: 'POST' })).status).toBe(405)
    expect((await fetch(`${url}/`)).headers.get('content-type')).toContain('text/html')
  })
})

describe('the text', () => {
  test.skipIf(!promtool)(promtoolTitle('passes promtool check metrics'), async () => {
    const root = makeWorkspace()
    const exporter = await scraped(root)
    append(countersPath(root), 2)
    expect(checkMetrics(await exporter.text())).toBe('')
    // The check itself can fail.
    expect(checkMetrics('# TYPE a counter\na{b="c} 1\n')).not.toBe('')
  })
})

test('1,000,000 lines are counted', { timeout: 60_000 }, async () => {
  const root = makeWorkspace()
  const line = (i: number) => counterLine('phase_skips_attempted', i)
  makeFolderOf(countersPath(root))
  for (let i = 0; i < 1_000_000; i += 10_000)
    appendFileSync(countersPath(root), Array.from({ length: 10_000 }, (_, j) => line(i + j)).join(''))
  const start = performance.now()
  const exporter = await scraped(root)
  console.log(`1,000,000 lines: started and counted in ${Math.round(performance.now() - start)} ms`)
  expect(await exporter.scrape()).toMatchObject({ [SKIPS]: 1_000_000 })
})
