// What was found, as tables.

import Table from 'cli-table3'
import { formatDuration } from '../demo/timings.mjs'
import { TARGETS } from './levels.mjs'

/** @typedef {import('./results.mjs').Results} Results */
/** @typedef {ReturnType<import('./levels.mjs').check>} Checked */

const count = new Intl.NumberFormat('en').format

/** Three digits that matter. @param {number} value */
export const digits = (value) =>
  value >= 100 ? count(Math.round(value)) : value.toFixed(value >= 10 ? 1 : value >= 0.1 ? 2 : 3)

/**
 * @param {Results} results
 * @param {Checked[]} levels
 */
export function printReport({ operations, growth, figures, failures }, levels) {
  if (operations.length > 0) {
    console.log('\nEvery operation on a small workspace\n')
    console.log(operationTable(operations))
    console.log(
      `pass: p50 < ${TARGETS.p50} ms, p95 < ${TARGETS.p95} ms, p99 < ${TARGETS.p99} ms; ratio: how many times faster ` +
        'driftlock is, by the middle one of the medians of ten rounds of each\n',
    )
  }
  if (growth.length > 0) {
    console.log('As the workspace grows: median, and how many times faster than the reference\n')
    console.log(growthTable(growth))
  }
  if (figures.length > 0) console.log(`\n${figureTable(figures)}`)
  console.log(`\n${levelTable(levels)}`)
  console.log(verdict(levels))
  for (const failure of failures) console.log(`\nFAILED: ${failure}`)
}

/** @param {Results['operations']} operations */
function operationTable(operations) {
  const table = tableOf(['operation', 'by', 'n', 'p50', 'p95', 'p99', 'p99.9', 'max', 'mean', 'sd', 'ratio', 'pass'], 2)
  for (const { name, candidates } of operations) {
    const own = candidates.driftlock
    for (const [candidate, summary] of Object.entries(candidates)) {
      const { p50, p95, p99, p999, max, mean, deviation } = summary
      const isOwn = summary === own
      table.push([
        isOwn ? name : '',
        candidate,
        count(summary.count),
        ...[p50, p95, p99, p999, max, mean, deviation].map(formatDuration),
        isOwn || !own ? '' : `${digits(summary.compared.p50 / own.compared.p50)} ×`,
        isOwn ? (meetsTargets(summary) ? 'yes' : 'NO') : '',
      ])
    }
  }
  return table.toString()
}

/** @param {import('./summary.mjs').Summary} summary */
export function meetsTargets({ p50, p95, p99 }) {
  return p50 < TARGETS.p50 && p95 < TARGETS.p95 && p99 < TARGETS.p99
}

/** @param {Results['growth']} growth */
function growthTable(growth) {
  const sizes = [...new Set(growth.map(({ size }) => size))]
  const names = [...new Set(growth.map(({ name }) => name))]
  const table = tableOf(['operation', 'by', ...sizes.map(count)], 2)
  for (const name of names) {
    for (const candidate of ['driftlock', 'reference']) {
      const cells = sizes.map((size) => {
        const found = growth.find((one) => one.name === name && one.size === size)?.candidates
        const own = found?.driftlock?.compared.p50
        const its = found?.[candidate]?.compared.p50
        if (its === undefined || own === undefined) return '–'
        return candidate === 'driftlock' ? formatDuration(its) : `${formatDuration(its)} (${digits(its / own)} ×)`
      })
      table.push([candidate === 'driftlock' ? name : '', candidate, ...cells])
    }
  }
  return table.toString()
}

/** @param {Results['figures']} figures */
function figureTable(figures) {
  const candidates = [...new Set(figures.map(({ candidate }) => candidate))]
  const table = tableOf(['figure', ...candidates], 1)
  for (const name of new Set(figures.map((figure) => figure.name))) {
    const cells = candidates.map((candidate) => {
      const found = figures.find((one) => one.name === name && one.candidate === candidate)
      return found ? formatFigure(found.value, found.unit) : '–'
    })
    table.push([name, ...cells])
  }
  return table.toString()
}

/**
 * @param {number} value
 * @param {string} unit
 */
function formatFigure(value, unit) {
  if (unit === 'ms') return formatDuration(value)
  if (unit === 'bytes') return `${digits(value / 1_000_000)} MB`
  return `${Number.isInteger(value) ? count(value) : digits(value)} ${unit}`.trim()
}

/** @param {Checked[]} levels */
function levelTable(levels) {
  const table = tableOf(['level', 'value', 'has to be', ''], 1)
  for (const { name, value, relation, level, unit, floor, passed } of levels) {
    if (value === undefined) continue
    const shown = `${digits(value)} ${unit}`.trim()
    const wanted = `${relation} ${count(level)} ${unit}`.trim() + (floor === undefined ? '' : ', or 0.67 × the floor')
    const found = floor === undefined ? shown : `${shown}, ${digits(floor)} × the floor`
    table.push([name, found, wanted, passed ? 'pass' : 'FAIL'])
  }
  return table.toString()
}

/** @param {Checked[]} levels */
function verdict(levels) {
  const of = (/** @type {boolean | undefined} */ passed) => levels.filter((level) => level.passed === passed).length
  return `${of(true)} levels hold, ${of(false)} don't, ${of(undefined)} were not measured`
}

/**
 * @param {string[]} head
 * @param {number} texts how many columns are no numbers
 */
export function tableOf(head, texts) {
  const colAligns = head.map((_, i) => (i < texts ? /** @type {const} */ ('left') : /** @type {const} */ ('right')))
  return new Table({
    head,
    colAligns,
    style: process.stdout.isTTY ? { head: ['cyan'] } : { head: [], border: [] },
    chars: { mid: '', 'left-mid': '', 'mid-mid': '', 'right-mid': '' },
  })
}
