// What a run looked like: the same figures as tables and as JSON.

import Table from 'cli-table3'
import { formatDuration } from './timings.mjs'

/** @typedef {ReturnType<import('./timings.mjs').Timings['summary']>[number]} OperationSummary */

/**
 * @typedef {object} AgentSummary
 * @property {string} agentId
 * @property {number} done by the ledger, so that a killed agent's work counts too
 * @property {'finished' | 'killed' | 'failed'} end
 * @property {import('./agent.mjs').AgentCounts} [counts] missing for an agent that could not report
 */

/**
 * @typedef {object} Report
 * @property {Record<string, unknown>} options
 * @property {{tasks: number, phases: number, transitions: number, milliseconds: number, perSecond: number}} run
 * @property {AgentSummary[]} agents
 * @property {OperationSummary[]} operations milliseconds
 * @property {(import('./kill.mjs').KillRecord & {takeOverMs?: number, afterLeaseEndMs?: number})} [kill]
 * @property {object} leaseStats the package's own, as the next
 * @property {object} driftStats
 * @property {{file: string, lines: number}} log
 * @property {string[]} violations
 */

/** A damaged run can have thousands; the first ones tell what happened. */
const VIOLATIONS_SHOWN = 20

const OPERATION_ORDER = [
  'acquire',
  'acquire (refused)',
  'getCurrentPhase',
  'attest',
  'renew',
  'holdsLease',
  'append',
  'release',
]

const count = new Intl.NumberFormat('en').format

/** @param {Report} report */
export function printReport({ run, agents, operations, kill, leaseStats, driftStats, log, violations }) {
  const seconds = formatDuration(run.milliseconds)
  console.log(`\n${count(run.transitions)} transitions in ${seconds} (${count(run.perSecond)} a second)\n`)
  console.log(agentTable(agents))
  console.log(operationTable(operations))
  console.log(`Leases, by the store: ${describe(leaseStats)}`)
  console.log(`Prompts, by the log: ${describe(driftStats)}`)
  if (log.lines > 0) console.log(`The agents wrote ${count(log.lines)} lines to ${log.file} (--keep keeps it)`)
  if (kill) console.log(describeKill(kill))
  console.log(`\n${verdict(run, violations)}`)
}

/** @param {AgentSummary[]} agents */
function agentTable(agents) {
  const head = ['agent', 'phases done', 'refused', 'too late', 'renewals', 'leases lost', 'drift seen', 'end']
  const table = new Table({ head, colAligns: ['left', ...Array(6).fill('right'), 'left'], ...tableStyle() })
  for (const { agentId, done, counts, end } of agents) {
    const { refused, late, renewals, lost, drift } = counts ?? {}
    const cells = [refused, late, renewals, lost?.length, drift].map((value) =>
      value === undefined ? '–' : count(value),
    )
    table.push([agentId, count(done), ...cells, end])
  }
  return table.toString()
}

/** @param {OperationSummary[]} operations */
function operationTable(operations) {
  const head = ['operation', 'count', 'p50', 'p95', 'p99', 'max']
  const table = new Table({ head, colAligns: ['left', ...Array(5).fill('right')], ...tableStyle() })
  const rank = (/** @type {OperationSummary} */ { operation }) => OPERATION_ORDER.indexOf(operation)
  for (const { operation, count: calls, ...times } of operations.toSorted((a, b) => rank(a) - rank(b))) {
    table.push([operation, count(calls), ...[times.p50, times.p95, times.p99, times.max].map(formatDuration)])
  }
  return table.toString()
}

/** @returns {import('cli-table3').TableConstructorOptions} no colours where nobody sees them, no lines between rows */
function tableStyle() {
  return {
    style: process.stdout.isTTY ? { head: ['cyan'] } : { head: [], border: [] },
    chars: { mid: '', 'left-mid': '', 'mid-mid': '', 'right-mid': '' },
  }
}

/** @param {object} stats */
function describe(stats) {
  const show = (/** @type {unknown} */ value) => {
    if (typeof value === 'number') return Number.isInteger(value) ? count(value) : value.toPrecision(3)
    return JSON.stringify(value)
  }
  return Object.entries(stats)
    .map(([name, value]) => `${name} ${show(value)}`)
    .join(', ')
}

/** @param {NonNullable<Report['kill']>} kill */
function describeKill({ agentId, taskId, phase, takenOverBy, takeOverMs, afterLeaseEndMs }) {
  const death = `${agentId} was killed while it held ${taskId}:${phase}`
  if (takeOverMs === undefined || afterLeaseEndMs === undefined) return `${death}; nobody took over`
  // Both times come from clocks that tick in milliseconds.
  const distance = `${Math.abs(afterLeaseEndMs)} ms`
  const relation = `${distance} ${afterLeaseEndMs < 0 ? 'before' : 'after'} the end of the lease`
  return `${death}; ${takenOverBy} took over ${formatDuration(takeOverMs)} later, ${relation}`
}

/**
 * @param {Report['run']} run
 * @param {string[]} violations
 */
function verdict({ tasks, phases }, violations) {
  if (violations.length === 0) {
    const done = `each of ${count(tasks)} × ${phases} phases done exactly once and in order`
    return `OK: ${done}; chain, prompts, baselines and leases as they must be`
  }
  const shown = violations.slice(0, VIOLATIONS_SHOWN).map((violation) => `  - ${violation}`)
  const rest = violations.length - shown.length
  if (rest > 0) shown.push(`  … and ${count(rest)} more`)
  return [`FAILED: ${count(violations.length)} violations`, ...shown].join('\n')
}
