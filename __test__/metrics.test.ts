import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { CounterSeries, HistogramSeries, Metrics } from '../index.js'
import { Peer, type PeerContext, runScript } from './helpers/peer.js'
import { makeWorkspace } from './helpers/workspace.js'

/** What every one of these tests runs in: a process that has counted nothing yet. */
async function inFreshProcess<A>(fn: (context: PeerContext, argument: A) => unknown, argument: A): Promise<Metrics> {
  const peer = await Peer.start()
  await peer.run(fn, argument)
  return peer.run(({ driftlock }) => driftlock.metrics())
}

const named = <F extends { name: string }>(families: F[], name: string): F => {
  const family = families.find((family) => family.name === `driftlock_process_${name}`)
  if (!family) throw new Error(`there is no ${name}`)
  return family
}

const matches = (labels: Record<string, string>, wanted: Record<string, string>): boolean =>
  Object.entries(wanted).every(([label, value]) => labels[label] === value)

function counted(metrics: Metrics, name: string, labels: Record<string, string> = {}): number {
  const series = named(metrics.counters, name).series.filter((series) => matches(series.labels, labels))
  if (series.length === 0) throw new Error(`${name} has no series ${JSON.stringify(labels)}`)
  return series.reduce((sum, series) => sum + series.value, 0)
}

function measured(metrics: Metrics, name: string, labels: Record<string, string> = {}): HistogramSeries {
  const series = named(metrics.histograms, name).series.find((series) => matches(series.labels, labels))
  if (!series) throw new Error(`${name} has no series ${JSON.stringify(labels)}`)
  return series
}

/** The values of a counter that are not 0, by one of its labels. */
const nonZero = (metrics: Metrics, name: string, label: string): Record<string, number> =>
  Object.fromEntries(
    named(metrics.counters, name)
      .series.filter(({ value }: CounterSeries) => value > 0)
      .map(({ labels, value }) => [labels[label], value]),
  )

test('every series is there from the start, at 0', async () => {
  const metrics = await inFreshProcess(() => {}, undefined)
  expect(metrics.counters.map(({ name }) => name)).toEqual([
    'driftlock_process_lease_acquisitions_total',
    'driftlock_process_lease_renewals_total',
    'driftlock_process_lease_takeovers_total',
    'driftlock_process_attestations_total',
    'driftlock_process_drift_total',
    'driftlock_process_ledger_appends_total',
    'driftlock_process_file_lock_acquisitions_total',
    'driftlock_process_errors_total',
  ])
  expect(metrics.histograms.map(({ name }) => name)).toEqual([
    'driftlock_process_lease_hold_seconds',
    'driftlock_process_lease_wait_seconds',
    'driftlock_process_file_lock_wait_seconds',
    'driftlock_process_operation_seconds',
  ])
  for (const { series } of metrics.counters) for (const { value } of series) expect(value).toBe(0)
  for (const { series } of metrics.histograms) for (const { count, sum } of series) expect([count, sum]).toEqual([0, 0])
  expect(named(metrics.counters, 'drift_total').series).toHaveLength(11 * 2 * 6)
  expect(named(metrics.counters, 'attestations_total').series).toHaveLength(11 * 6)
})

test('leases: what was answered, how long they were held and waited for', async () => {
  const metrics = await inFreshProcess(async ({ driftlock, sleep }, root: string) => {
    const one = new driftlock.PhaseLeaseManager(root, { agentId: 'one', maxRenewals: 1 })
    const two = new driftlock.PhaseLeaseManager(root, { agentId: 'two' })
    await one.acquireLease('T', 'SPEC')
    await two.acquireLease('T', 'SPEC')
    await one.renewLease('T', 'SPEC')
    await one.renewLease('T', 'SPEC')
    await two.renewLease('T', 'SPEC')
    await one.advanceLease('T', 'SPEC', 'PLAN')
    await one.advanceLease('T', 'SPEC', 'PLAN')
    const keys = ['A', 'B'].map((taskId) => ({ taskId, phase: 'SPEC' }))
    const held = await two.holdMany(keys)
    await one.hold('A', 'SPEC', { waitMs: 60 }).catch(() => {})
    await held.release()
    const brief = new driftlock.PhaseLeaseManager(root, { agentId: 'brief', leaseDuration: 0.05 })
    await brief.acquireLease('E', 'SPEC')
    await sleep(80)
    await two.acquireLease('E', 'SPEC')
    two.close()
    await two.acquireLease('T', 'SPEC')
  }, makeWorkspace())
  // SPEC, PLAN, A and B, E twice.
  expect(nonZero(metrics, 'lease_acquisitions_total', 'result')).toEqual({ acquired: 6, contended: 2, error: 1 })
  expect(nonZero(metrics, 'lease_renewals_total', 'result')).toEqual({ renewed: 1, refused: 2 })
  expect(nonZero(metrics, 'lease_takeovers_total', 'reason')).toEqual({ expired: 1 })
  expect(nonZero(metrics, 'errors_total', 'code')).toEqual({ LEASE_HELD: 1, CLOSED: 1 })
  const holds = measured(metrics, 'lease_hold_seconds')
  expect(holds.count).toBe(4)
  expect(holds.sum).toBeGreaterThanOrEqual(0.05 + 2 * 0.055)
  const waits = measured(metrics, 'lease_wait_seconds')
  expect(waits.count).toBe(2)
  expect(waits.sum).toBeGreaterThanOrEqual(0.055)
  const took = (operation: string): number => measured(metrics, 'operation_seconds', { operation }).count
  expect([took('acquire'), took('renew'), took('advance'), took('hold'), took('release')]).toEqual([5, 3, 2, 2, 2])
})

test('held leases: the keeper’s renewals, and their loss', async () => {
  const metrics = await inFreshProcess(async ({ driftlock, sleep }, root: string) => {
    const manager = new driftlock.PhaseLeaseManager(root, { leaseDuration: 0.3 })
    const lease = await manager.hold('T', 'SPEC')
    while (driftlock.metrics().counters[1]?.series[0]?.value === 0) await sleep(10)
    await manager.forceRelease('T', 'SPEC', { by: 'test', reason: 'to be lost' })
    while (!lease.signal.aborted) await sleep(10)
  }, makeWorkspace())
  expect(counted(metrics, 'lease_renewals_total', { result: 'renewed' })).toBeGreaterThan(0)
  expect(counted(metrics, 'errors_total', { code: 'LEASE_LOST' })).toBe(1)
  expect(measured(metrics, 'lease_hold_seconds').count).toBe(1)
})

test('attestations and drift, by phase, dimension and severity', async () => {
  const metrics = await inFreshProcess(async ({ driftlock }, root: string) => {
    const manager = new driftlock.PromptAttestationManager(root)
    const spec = {
      phase: 'VERIFY',
      taskId: 'T',
      timestamp: '',
      requirements: ['a'],
      qualityGates: [],
      artifacts: [],
      contextSummary: '',
      personaHash: 'one',
    }
    await manager.attest(spec)
    await manager.attest({ ...spec, requirements: ['b'] })
    await manager.attest({ ...spec, requirements: ['b'], personaHash: 'two' })
    await manager.attest({ ...spec, phase: 'of my own' })
    // @ts-expect-error: nothing that can be hashed
    await manager.attest({ phase: 'VERIFY' })
    await manager.getAttestationHistory('T')
    await manager.getDriftStats()
    await manager.resetBaseline('T', 'VERIFY', 'new')
  }, makeWorkspace())
  expect(counted(metrics, 'attestations_total')).toBe(4)
  expect(counted(metrics, 'attestations_total', { phase: 'VERIFY', severity: 'none' })).toBe(1)
  expect(counted(metrics, 'attestations_total', { phase: 'VERIFY', severity: 'high' })).toBe(2)
  expect(counted(metrics, 'attestations_total', { phase: 'other', severity: 'none' })).toBe(1)
  expect(counted(metrics, 'drift_total')).toBe(3)
  expect(counted(metrics, 'drift_total', { phase: 'VERIFY', dimension: 'prompt', severity: 'high' })).toBe(2)
  expect(counted(metrics, 'drift_total', { phase: 'VERIFY', dimension: 'persona', severity: 'high' })).toBe(1)
  expect(nonZero(metrics, 'errors_total', 'code')).toEqual({ INVALID_ARGUMENT: 1 })
  for (const operation of ['history', 'stats', 'reset_baseline']) {
    expect(measured(metrics, 'operation_seconds', { operation }).count).toBe(1)
  }
})

test('ledger appends', async () => {
  const metrics = await inFreshProcess(async ({ driftlock, require }, root: string) => {
    const ledger = new driftlock.PhaseLedger(root)
    await ledger.initialize()
    // In one turn: most of them are appended together.
    await Promise.all(Array.from({ length: 500 }, () => ledger.appendTransition('T', null, 'SPEC', [], true)))
    const { mkdirSync } = require('node:fs') as typeof import('node:fs')
    const broken = `${root}/broken`
    mkdirSync(`${broken}/state/process/ledger.jsonl`, { recursive: true })
    await new driftlock.PhaseLedger(broken).appendTransition('T', null, 'SPEC', [], true).catch(() => {})
    await ledger.verify()
  }, makeWorkspace())
  expect(nonZero(metrics, 'ledger_appends_total', 'result')).toEqual({ appended: 500, error: 1 })
  expect(measured(metrics, 'operation_seconds', { operation: 'append' }).count).toBe(501)
  expect(measured(metrics, 'operation_seconds', { operation: 'verify' }).count).toBe(1)
  expect(nonZero(metrics, 'errors_total', 'code')).toEqual({ IO: 1 })
})

test('file locks', async () => {
  const root = makeWorkspace()
  mkdirSync(join(root, 'folder'))
  const metrics = await inFreshProcess(async ({ driftlock }, root: string) => {
    const path = `${root}/a.lock`
    await driftlock.acquireLock(path)
    await driftlock.acquireLock(path, { timeout: 0 })
    await driftlock.acquireLock(path, { maxRetries: 0 })
    await driftlock.withFileLock(path, () => {}, { timeout: 60 }).catch(() => {})
    await driftlock.releaseLock(path)
    await driftlock.acquireLock(`${root}/folder`)
    // @ts-expect-error: no path
    await driftlock.acquireLock(7)
  }, root)
  expect(nonZero(metrics, 'file_lock_acquisitions_total', 'result')).toEqual({ acquired: 1, timeout: 3, error: 2 })
  const waits = measured(metrics, 'file_lock_wait_seconds')
  expect(waits.count).toBe(6)
  expect(waits.sum).toBeGreaterThanOrEqual(0.055)
  expect(nonZero(metrics, 'errors_total', 'code')).toMatchObject({ LOCK_NOT_ACQUIRED: 1, INVALID_ARGUMENT: 1 })
})

test('histograms: buckets add up', async () => {
  const metrics = await inFreshProcess(async ({ driftlock }, root: string) => {
    const manager = new driftlock.PhaseLeaseManager(root)
    for (let i = 0; i < 200; i++) await manager.acquireLease(`T${i}`, 'SPEC')
  }, makeWorkspace())
  const { buckets, count, sum } = measured(metrics, 'operation_seconds', { operation: 'acquire' })
  expect(count).toBe(200)
  expect(sum).toBeGreaterThan(0)
  for (const [i, bucket] of buckets.entries()) {
    const before = buckets[i - 1] ?? { le: 0, count: 0 }
    expect(bucket.le).toBeGreaterThan(before.le)
    expect(bucket.count).toBeGreaterThanOrEqual(before.count)
    expect(bucket.count).toBeLessThanOrEqual(count)
  }
  // Nothing that takes microseconds is counted as seconds.
  expect(buckets.find(({ le }) => le === 30)?.count).toBe(200)
})

test('a worker thread counts for the process', async () => {
  const root = makeWorkspace()
  const metrics = await inFreshProcess(
    async ({ require }, { root, entry }: { root: string; entry: string }) => {
      const { Worker } = require('node:worker_threads') as typeof import('node:worker_threads')
      const source = `const { workerData: { root, entry } } = require('node:worker_threads')
      const manager = new (require(entry).PhaseLeaseManager)(root)
      manager.acquireLease('T', 'SPEC').then(() => manager.close())`
      await new Promise((resolve) =>
        new Worker(source, { eval: true, workerData: { root, entry } }).on('exit', resolve),
      )
    },
    { root, entry: join(__dirname, '..', 'index.js') },
  )
  expect(counted(metrics, 'lease_acquisitions_total', { result: 'acquired' })).toBe(1)
})

test('the text is what Prometheus reads, and says the same', async (context) => {
  const found = spawnSync('promtool', ['--version'])
  if (found.error && !process.env.CI) context.skip('not run: promtool is not installed')
  const peer = await Peer.start()
  const { text, metrics } = await peer.run(async ({ driftlock }, root: string) => {
    const manager = new driftlock.PhaseLeaseManager(root)
    await manager.acquireLease('T', 'SPEC')
    await (await manager.hold('U', 'SPEC')).release()
    return { text: driftlock.metricsText(), metrics: driftlock.metrics() }
  }, makeWorkspace())
  // Fails, and says why, for what is no metric and for names that are not as they should be.
  expect(execFileSync('promtool', ['check', 'metrics'], { input: text, encoding: 'utf8' })).toBe('')
  const samples = new Map(
    text
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('#'))
      .map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ') + 1))]),
  )
  expect(samples.get('driftlock_process_lease_acquisitions_total{result="acquired"}')).toBe(2)
  expect(samples.get('driftlock_process_lease_hold_seconds_count')).toBe(1)
  const { buckets, sum } = measured(metrics, 'operation_seconds', { operation: 'acquire' })
  for (const { le, count } of buckets) {
    expect(samples.get(`driftlock_process_operation_seconds_bucket{operation="acquire",le="${le}"}`)).toBe(count)
  }
  expect(samples.get('driftlock_process_operation_seconds_bucket{operation="acquire",le="+Inf"}')).toBe(1)
  expect(samples.get('driftlock_process_operation_seconds_sum{operation="acquire"}')).toBe(sum)
  const series = metrics.counters.reduce((sum, { series }) => sum + series.length, 0)
  const lines = metrics.histograms.flatMap(({ series }) => series).map(({ buckets }) => buckets.length + 3)
  expect(samples.size).toBe(lines.reduce((sum, lines) => sum + lines, series))
})

test('to read them touches no file and keeps no process alive', async () => {
  const ended = await runScript(({ driftlock }) => {
    driftlock.metrics()
    driftlock.metricsText()
  }, undefined)
  expect(ended).toMatchObject({ code: 0, signal: null, stderr: '' })
})
