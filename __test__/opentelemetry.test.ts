import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { basename, dirname, join } from 'node:path'
import {
  AggregationTemporality,
  InMemoryMetricExporter,
  MeterProvider,
  PeriodicExportingMetricReader,
} from '@opentelemetry/sdk-metrics'
import { expect, onTestFinished, test } from 'vitest'
import { DriftlockError, metrics, registerOpenTelemetry } from '../index.js'
import { packageEntry, runNode } from './helpers/peer.js'
import { makeWorkspace, openLeases } from './helpers/workspace.js'

/** A meter provider, and what a reader finds there. */
function inMemory(): { meterProvider: MeterProvider; read(): Promise<Map<string, number>> } {
  const exporter = new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE)
  const reader = new PeriodicExportingMetricReader({ exporter, exportIntervalMillis: 3_600_000 })
  const meterProvider = new MeterProvider({ readers: [reader] })
  onTestFinished(() => meterProvider.shutdown())
  const read = async (): Promise<Map<string, number>> => {
    exporter.reset()
    await meterProvider.forceFlush()
    const found = exporter
      .getMetrics()
      .flatMap(({ scopeMetrics }) => scopeMetrics)
      .filter(({ scope }) => scope.name === 'driftlock')
      .flatMap(({ metrics }) => metrics)
      .flatMap(({ descriptor, dataPoints }) =>
        dataPoints.map(({ attributes, value }) => [`${descriptor.name} ${JSON.stringify(attributes)}`, value] as const),
      )
    return new Map(found as [string, number][])
  }
  return { meterProvider, read }
}

const ACQUIRED = 'driftlock_process_lease_acquisitions {"result":"acquired"}'

test('shows each series, with its labels as attributes, until it is stopped', async () => {
  const { meterProvider, read } = inMemory()
  const registration = registerOpenTelemetry({ meterProvider })
  const manager = openLeases(makeWorkspace())
  const before = (await read()).get(ACQUIRED) ?? Number.NaN
  await manager.acquireLease('T', 'SPEC')
  const found = await read()
  expect(found.get(ACQUIRED)).toBe(before + 1)
  const { counters, histograms } = metrics()
  const expected = new Map<string, number>()
  for (const { name, series } of counters) {
    for (const { labels, value } of series) {
      expected.set(`${name.replace(/_total$/, '')} ${JSON.stringify(labels)}`, value)
    }
  }
  for (const { name, series } of histograms) {
    for (const { labels, count, sum } of series) {
      expected.set(`${name}_count ${JSON.stringify(labels)}`, count)
      expected.set(`${name}_sum ${JSON.stringify(labels)}`, sum)
    }
  }
  expect(found).toEqual(expected)
  registration.stop()
  registration.stop()
  await manager.acquireLease('U', 'SPEC')
  expect((await read()).get(ACQUIRED) ?? before + 1).toBe(before + 1)
})

test('two readers each see all of it', async () => {
  const [one, two] = [inMemory(), inMemory()]
  const registrations = [one, two].map(({ meterProvider }) => registerOpenTelemetry({ meterProvider }))
  expect((await one.read()).get(ACQUIRED)).toBe((await two.read()).get(ACQUIRED))
  for (const registration of registrations) registration.stop()
})

test.each([7, null, {}])('refuses %j in the place of a meter provider', (meterProvider) => {
  const wrong = { meterProvider } as unknown as Parameters<typeof registerOpenTelemetry>[0]
  expect(() => registerOpenTelemetry(wrong)).toThrow(DriftlockError)
  expect(() => registerOpenTelemetry(wrong)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }))
})

/** An application in a folder of its own, with these packages and this code. */
function application(code: string, packages: string[]): string {
  const root = makeWorkspace()
  for (const name of packages) {
    const filter = (path: string): boolean => !/\/(esm|esnext)$|\.(map|d\.ts)$/.test(path)
    cpSync(join(__dirname, '..', 'node_modules', name), join(root, 'node_modules', name), { recursive: true, filter })
  }
  const script = join(root, 'app.cjs')
  writeFileSync(script, code)
  return script
}

test('uses the application’s own @opentelemetry/api, whose provider no other copy may see', async () => {
  const script = application(
    `const { metrics } = require('@opentelemetry/api')
    const { InMemoryMetricExporter, MeterProvider, PeriodicExportingMetricReader } = require('@opentelemetry/sdk-metrics')
    const exporter = new InMemoryMetricExporter(1)
    const provider = new MeterProvider({ readers: [new PeriodicExportingMetricReader({ exporter })] })
    metrics.setGlobalMeterProvider(provider)
    require(${JSON.stringify(packageEntry)}).registerOpenTelemetry()
    provider.forceFlush().then(() => {
      console.log(exporter.getMetrics()[0].scopeMetrics.map(({ scope }) => scope.name).join())
      return provider.shutdown()
    })`,
    ['api', 'core', 'resources', 'sdk-metrics'].map((name) => `@opentelemetry/${name}`),
  )
  // Much to copy, and it doesn't use the API.
  const constants = 'node_modules/@opentelemetry/semantic-conventions'
  symlinkSync(join(__dirname, '..', constants), join(dirname(script), constants), 'junction')
  // Older than the one that this package's own tests use: that one does not see what this one has set.
  const version = join(dirname(script), 'node_modules/@opentelemetry/api/build/src/version.js')
  const older = readFileSync(version, 'utf8').replace(/VERSION = '[^']+'/, "VERSION = '1.4.0'")
  expect(older).toContain("'1.4.0'")
  writeFileSync(version, older)
  expect(await runNode([script])).toMatchObject({ stdout: 'driftlock\n', stderr: '', code: 0 })
})

test('says what to install where there is none', async () => {
  const root = makeWorkspace()
  // A copy of the package that has no node_modules around it.
  const binary = Object.keys(createRequire(packageEntry).cache).find((path) => path.endsWith('.node')) ?? ''
  for (const name of [
    'index.js',
    'attestations.js',
    'leases.js',
    'prometheus.js',
    'opentelemetry.js',
    'binding.js',
    basename(binary),
    'package.json',
  ]) {
    mkdirSync(join(root, 'package'), { recursive: true })
    cpSync(join(dirname(packageEntry), name), join(root, 'package', name))
  }
  const script = join(root, 'app.cjs')
  writeFileSync(
    script,
    `const { registerOpenTelemetry, DriftlockError } = require('./package/index.js')
    try {
      registerOpenTelemetry()
    } catch (error) {
      console.log(error instanceof DriftlockError, error.code, error.message)
    }`,
  )
  const ended = await runNode([script], { cwd: root })
  expect(ended.stderr).toBe('')
  expect(ended.stdout).toMatch(/^true OPENTELEMETRY_MISSING .*npm install @opentelemetry\/api/)
})
