// The levels that the package is held to. Where there is a reference they are ratios, which hold on any machine.

import { STALL_CASES } from './suites/stalls.mjs'

/** @typedef {import('./results.mjs').Results} Results */
/** @typedef {import('./summary.mjs').Summary} Summary */

/**
 * @typedef {object} Level
 * @property {string} name
 * @property {(results: Results) => number | undefined} value undefined if it was not measured
 * @property {'at least' | 'at most' | 'under'} relation
 * @property {number} level
 * @property {'×' | 'ms' | 'MB' | ''} unit
 * @property {(results: Results) => number | undefined} [floor] how near the least is that SQLite takes for it by itself: 1
 * is as fast
 */

/** What is this near to the floor need not reach its level. */
const NEAR = 1 / 1.5

const MB = 1_000_000

/** What every operation has to keep, whatever the machine. */
export const TARGETS = { p50: 20, p95: 50, p99: 100 }

/** @type {Level[]} */
export const LEVELS = [
  { ...faster('lease acquire + release', 2), floor: floorOf('lease acquire + release', 'better-sqlite3') },
  {
    ...faster('lease acquire + release', 5, { percentile: 'p999' }),
    floor: floorOf('lease acquire + release', 'better-sqlite3', 'p999'),
  },
  faster('lease renewal', 2),
  faster('holdsLease', 2),
  faster('repeated attestation', 20),
  faster('repeated attestation', 1000, { size: 100_000 }),
  growth('repeated attestation', 1_000_000, 0, 1.5),
  faster('first attestation', 20),
  faster('first attestation', 1000, { size: 100_000 }),
  growth('first attestation', 1_000_000, 100_000, 2),
  faster('first call: repeated attestation', 4, { size: 100_000 }),
  faster('withFileLock', 10, { against: 'proper-lockfile' }),
  faster('withFileLock', 5),
  {
    ...atLeast('contended file lock: throughput against proper-lockfile', 5, '×'),
    value: (results) =>
      ratio(results.figure('contended file lock'), results.figure('contended file lock', 'proper-lockfile')),
  },
  {
    ...atMost('contended file lock: p99 wait against proper-lockfile', 1, '×'),
    value: (results) =>
      ratio(results.figure('contended file lock: p99'), results.figure('contended file lock: p99', 'proper-lockfile')),
  },
  faster('ledger append', 5),
  faster('history of one task', 100, { size: 100_000 }),
  faster('first call: history of one task', 4, { size: 100_000 }),
  faster('statistics', 1000, { size: 100_000 }),
  faster('first call: statistics', 4, { size: 100_000 }),
  faster('ledger verification', 3, { size: 100_000 }),
  {
    ...under('1,000 attestations at once', 50, 'ms'),
    value: (results) => results.figure('1,000 attestations at once'),
  },
  {
    ...atLeast('1,000 attestations at once: recorded', 1000, ''),
    value: (results) => results.figure('1,000 attestations at once: recorded'),
  },
  {
    ...atLeast('contended database: throughput', 2, '×'),
    value: (results) => ratio(results.figure('contended database'), results.figure('contended database', 'reference')),
    floor: (results) =>
      ratio(results.figure('contended database'), results.figure('contended database', 'better-sqlite3')),
  },
  {
    ...atLeast('contended database: slowest process by mean', 0.5, ''),
    value: (results) => results.figure('contended database: slowest process by mean'),
  },
  {
    ...under('hand-over of a held lease to another process', 5, 'ms'),
    value: (results) => results.figure('hand-over of a held lease: p50'),
  },
  {
    ...under('100 waiters in a process, in % of a core', 2, ''),
    value: (results) => results.figure('100 waiters in a process'),
  },
  ...STALL_CASES.map((what) => ({
    ...under(`longest stall: ${what}`, 10, 'ms'),
    value: (/** @type {Results} */ results) => results.figure(`stall: ${what}`),
  })),
  { ...under('import', 10, 'ms'), value: (results) => results.figure('import') },
  { ...under('binary, stripped', 4, 'MB'), value: (results) => scaled(results.figure('binary'), MB) },
  {
    ...under('memory that the import takes', 15, 'MB'),
    value: (results) => scaled(results.figure('memory after import'), MB),
  },
  {
    ...under('memory of a process that knows 1,000,000 records', 250, 'MB'),
    value: (results) => scaled(results.figure('memory at 1000000'), MB),
  },
]

/**
 * @param {Level} level
 * @param {Results} results
 * @returns {{name: string, value: number | undefined, relation: string, level: number, unit: string, floor: number | undefined, passed: boolean | undefined}}
 */
export function check({ name, value: measured, relation, level, unit, floor: near }, results) {
  const value = measured(results)
  const holds = { 'at least': (v) => v >= level, 'at most': (v) => v <= level, under: (v) => v < level }[relation]
  const floor = near?.(results)
  const passed = value === undefined ? undefined : holds(value) || (floor ?? 0) >= NEAR
  return { name, value, relation, level, unit, floor, passed }
}

/**
 * So many times faster than another candidate in the same run.
 * @param {string} operation
 * @param {number} level
 * @param {{size?: number, against?: string, percentile?: 'p50' | 'p999'}} [options]
 * @returns {Level}
 */
function faster(operation, level, { size, against = 'reference', percentile = 'p50' } = {}) {
  const where = size === undefined ? '' : ` among ${size.toLocaleString('en')}`
  const what = percentile === 'p50' ? '' : ', p99.9'
  return {
    ...atLeast(`${operation}${where}${what}: against ${against}`, level, '×'),
    value(results) {
      const found = results.latency(operation, size)
      return ratio(found?.[against]?.compared[percentile], found?.driftlock?.compared[percentile])
    },
  }
}

/**
 * How near an operation is to its floor in the same run.
 * @param {string} operation
 * @param {string} floor
 * @param {'p50' | 'p999'} [percentile]
 * @returns {(results: Results) => number | undefined}
 */
function floorOf(operation, floor, percentile = 'p50') {
  return (results) => {
    const found = results.latency(operation)
    return ratio(found?.[floor]?.compared[percentile], found?.driftlock?.compared[percentile])
  }
}

/**
 * So many times slower than itself among fewer records.
 * @param {string} operation
 * @param {number} size
 * @param {number} smaller
 * @param {number} level
 * @returns {Level}
 */
function growth(operation, size, smaller, level) {
  const [among, than] = [size, smaller].map((number) => number.toLocaleString('en'))
  return {
    ...atMost(`${operation} among ${among}: against itself among ${than}`, level, '×'),
    value(results) {
      const [one, other] = [size, smaller].map((number) => results.latency(operation, number)?.driftlock?.compared.p50)
      return ratio(one, other)
    },
  }
}

/**
 * @param {string} name
 * @param {number} level
 * @param {Level['unit']} unit
 */
function atLeast(name, level, unit) {
  return { name, relation: /** @type {const} */ ('at least'), level, unit }
}

/** @type {typeof atLeast} */
function atMost(name, level, unit) {
  return { name, relation: /** @type {any} */ ('at most'), level, unit }
}

/** @type {typeof atLeast} */
function under(name, level, unit) {
  return { name, relation: /** @type {any} */ ('under'), level, unit }
}

/**
 * @param {number | undefined} one
 * @param {number | undefined} other
 */
function ratio(one, other) {
  return one === undefined || other === undefined ? undefined : one / other
}

/**
 * @param {number | undefined} value
 * @param {number} unit
 */
function scaled(value, unit) {
  return value === undefined ? undefined : value / unit
}
