// What a run has found, and how it is shown.

import { formatDuration } from '../../demo/timings.mjs'
import { digits, tableOf } from '../report.mjs'
import { OPERATIONS } from './suites.mjs'

/** @typedef {import('./suites.mjs').Summary} Summary */

/**
 * An operation, and what statements take for it.
 * @typedef {{operation: string, clients: number, driftlock: Summary, plain?: Summary, needed?: Summary}} Found
 */

/** At most so many times as long as plain statements may a call of ours take. */
export const LEVEL = 1.5

const count = new Intl.NumberFormat('en').format

export class Results {
  /** @type {Found[]} */
  operations = []
  /** @type {{operation: string, size: number, driftlock: Summary}[]} */
  growth = []
  /** @type {{name: string, value: number, unit: string}[]} */
  figures = []

  /**
   * @param {string} name
   * @param {number} value
   * @param {string} unit
   */
  add(name, value, unit) {
    this.figures.push({ name, value, unit })
  }

  /** Whether each operation is near enough to plain statements. */
  get areWithinLevel() {
    return this.operations.every(isWithinLevel)
  }

  print() {
    if (this.operations.length > 0) {
      const table = tableOf(['operation', 'clients', 'by', 'per second', 'p50', 'p99', 'ratio', ''], 3)
      for (const found of this.operations) {
        const passes = isWithinLevel(found) ? 'pass' : 'FAIL'
        table.push([named(found.operation), found.clients, 'driftlock', ...shown(found.driftlock), '', passes])
        for (const kind of KINDS) {
          const statements = found[kind]
          if (statements) {
            table.push(['', '', `${kind} statements`, ...shown(statements), `${digits(ratio(found, kind))} ×`, ''])
          }
        }
      }
      console.log(
        `\nCalls, and statements by pgbench; ratio: theirs per second to ours, at most ${LEVEL} for one of them\n`,
      )
      console.log(table.toString())
    }
    if (this.growth.length > 0) {
      const table = tableOf(['operation, 8 clients', 'among', 'per second', 'p50', 'p99'], 1)
      for (const { operation, size, driftlock } of this.growth) {
        table.push([named(operation), count(size), ...shown(driftlock)])
      }
      console.log(`\nAs the tables grow\n\n${table}`)
    }
    if (this.figures.length > 0) {
      const table = tableOf(['figure', 'value'], 1)
      for (const { name, value, unit } of this.figures) {
        table.push([name, unit === 'ms' ? formatDuration(value) : `${digits(value)} ${unit}`.trim()])
      }
      console.log(`\n${table}`)
    }
  }
}

/** @param {string} operation */
const named = (operation) => OPERATIONS[/** @type {keyof typeof OPERATIONS} */ (operation)]

/** @param {Summary} summary */
const shown = ({ perSecond, p50, p99 }) => [count(Math.round(perSecond)), formatDuration(p50), formatDuration(p99)]

const KINDS = /** @type {const} */ (['plain', 'needed'])

/** @param {Found} found @param {'plain' | 'needed'} kind */
const ratio = (found, kind) => (found[kind]?.perSecond ?? Infinity) / found.driftlock.perSecond

/** @param {Found} found */
const isWithinLevel = (found) => KINDS.some((kind) => ratio(found, kind) <= LEVEL)
