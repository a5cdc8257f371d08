'use strict'

// What the process has counted, for OpenTelemetry.

const { createRequire } = require('node:module')
const { join } = require('node:path')
const { version } = require('./package.json')

/**
 * The application's own `@opentelemetry/api`. Where this package is a link its peers are others, and copies of the API
 * whose versions don't fit do not see each other's providers.
 * @param {typeof import('./index.js').DriftlockError} DriftlockError
 */
function loadApi(DriftlockError) {
  for (const place of [process.argv[1], __filename, join(process.cwd(), 'index.js')]) {
    let path
    try {
      path = createRequire(place).resolve('@opentelemetry/api')
    } catch {
      continue
    }
    return require(path)
  }
  throw new DriftlockError(
    'OPENTELEMETRY_MISSING',
    'registerOpenTelemetry needs @opentelemetry/api, which is not installed: npm install @opentelemetry/api, ' +
      'or pass a meterProvider',
  )
}

/**
 * @param {import('./index.js').OpenTelemetryOptions | undefined} options
 * @param {() => import('./index.js').Metrics} metrics
 * @param {typeof import('./index.js').DriftlockError} DriftlockError
 */
function register(options, metrics, DriftlockError) {
  const given = options?.meterProvider
  if (given !== undefined && typeof given?.getMeter !== 'function') {
    const actual = given === null ? 'null' : typeof given
    throw new DriftlockError('INVALID_ARGUMENT', `meterProvider must be a MeterProvider, got ${actual}`)
  }
  const meter = (given ?? loadApi(DriftlockError).metrics).getMeter('driftlock', version)
  const { counters, histograms } = metrics()
  const instruments = new Map()
  const create = (name, description, unit) => {
    instruments.set(name, meter.createObservableCounter(name, { description, unit }))
  }
  for (const { name, help } of counters) create(withoutTotal(name), help)
  for (const { name, help } of histograms) {
    create(`${name}_count`, help)
    create(`${name}_sum`, help, 's')
  }
  const observe = (result) => {
    const { counters, histograms } = metrics()
    for (const { name, series } of counters) {
      for (const { labels, value } of series) result.observe(instruments.get(withoutTotal(name)), value, labels)
    }
    for (const { name, series } of histograms) {
      for (const { labels, count, sum } of series) {
        result.observe(instruments.get(`${name}_count`), count, labels)
        result.observe(instruments.get(`${name}_sum`), sum, labels)
      }
    }
  }
  const observed = [...instruments.values()]
  meter.addBatchObservableCallback(observe, observed)
  return { stop: () => meter.removeBatchObservableCallback(observe, observed) }
}

const withoutTotal = (name) => name.replace(/_total$/, '')

module.exports = { register }
