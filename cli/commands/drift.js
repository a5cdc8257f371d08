'use strict'

const { PromptAttestationManager } = require('../../index.js')
const { EXIT, UsageError } = require('../exit.js')
const { RANK, SEVERITIES, driftOf, noCounts } = require('../drift.js')
const { Journal } = require('../journal.js')
const { answer, severityShown, table } = require('../output.js')
const { driftsSince, onServer } = require('../store.js')
const { counted, shown } = require('../text.js')
const { openWorkspace, pathOf } = require('../workspace.js')

const UNITS = Object.freeze({ s: 1e3, m: 60e3, h: 3600e3, d: 86_400e3, w: 604_800e3 })

exports.command = 'drift'
exports.describe = 'Prompts and personas that differ from their baselines, newest first'

/** @param {import('yargs').Argv} parser */
exports.builder = (parser) =>
  parser
    .option('task', { alias: 't', type: 'string', requiresArg: true, describe: 'Only of this task' })
    .option('since', {
      type: 'string',
      requiresArg: true,
      describe: 'Only since then: 30m, 2h, 7d, or a time (ISO 8601)',
    })
    .option('limit', {
      type: 'number',
      requiresArg: true,
      default: 50,
      describe: 'List so many at most; all are counted',
    })
    .option('fail-on', {
      choices: /** @type {const} */ (['low', 'medium', 'high']),
      requiresArg: true,
      describe: 'Exit with 1 if there is one of this severity or worse',
    })
    .example('$0 drift --since 2h', 'what drifted in the last two hours')
    .example('$0 drift --since 1d --fail-on high', 'for a gate in CI')
    .epilogue('A drift whose severity is not recorded (unknown) counts as high for --fail-on.')

/**
 * @typedef {NonNullable<ReturnType<typeof driftOf>>} Drift
 * @param {{workspace: string, json: boolean, task?: string, since?: string, limit: number, failOn?: 'low' | 'medium' | 'high'}} options
 */
exports.handler = async (options) => {
  const { task, failOn, limit } = options
  const since = options.since === undefined ? undefined : timeOf(options.since, Date.now())
  if (!Number.isInteger(limit) || limit < 0) throw new UsageError('--limit takes a whole number from 0 on')
  const { root } = await openWorkspace(options)
  const journal = onServer() ? undefined : new Journal(pathOf(root, 'attestations'))
  const counts = noCounts()
  /** @type {Drift[]} */
  const latest = []
  let attestations = 0
  const take = (/** @type {Record<string, unknown>} */ record) => {
    if (task !== undefined && record.task_id !== task) return
    // A record without a time that can be read is rather shown than missed.
    if (since !== undefined && Date.parse(String(record.timestamp)) < since) return
    attestations++
    const drift = driftOf(record)
    if (!drift) return
    counts[drift.severity]++
    latest.push(drift)
    if (latest.length > limit) latest.shift()
  }
  if (journal) await journal.read(take)
  else if (task !== undefined) {
    for (const record of await new PromptAttestationManager(root).getAttestationHistory(task)) take({ ...record })
  } else {
    const { attestations: all, drift } = await driftsSince(since ?? 0)
    drift.forEach(take)
    attestations = all
  }
  const total = SEVERITIES.reduce((sum, name) => sum + counts[/** @type {keyof typeof counts} */ (name)], 0)
  const isFound =
    failOn !== undefined &&
    SEVERITIES.some((name) => isAtLeast(name, failOn) && counts[/** @type {keyof typeof counts} */ (name)] > 0)
  if (isFound) process.exitCode = EXIT.FOUND
  const found = {
    workspace: root,
    ...(since === undefined ? {} : { since: new Date(since).toISOString() }),
    attestations,
    damagedLines: journal?.damagedLines ?? 0,
    total,
    counts,
    ...(failOn ? { failOn, failed: isFound } : {}),
    drift: latest.toReversed(),
  }
  answer(options, found, (value) => toText(value, journal?.exists ?? true))
}

/** @param {string} severity @param {'low' | 'medium' | 'high'} threshold */
const isAtLeast = (severity, threshold) => RANK[/** @type {keyof typeof RANK} */ (severity)] >= RANK[threshold]

/** The time that `--since` means. @param {string} text @param {number} now */
function timeOf(text, now) {
  const [, number, unit] = /^(\d+(?:\.\d+)?)([smhdw])$/.exec(text) ?? []
  if (number !== undefined)
    return new Date(now - Number(number) * UNITS[/** @type {keyof typeof UNITS} */ (unit)]).getTime() || 0
  const time = /^\d{4}-\d\d/.test(text) ? Date.parse(text) : Number.NaN
  if (!Number.isNaN(time)) return time
  throw new UsageError(
    `--since takes a duration such as 30m, 2h or 7d, or a time such as 2026-01-31T12:00:00Z, got ${shown(text)}`,
  )
}

/** @param {{attestations: number, total: number, counts: Record<string, number>, drift: Drift[], damagedLines: number}} found @param {boolean} exists */
function toText({ attestations, total, counts, drift, damagedLines }, exists) {
  if (!exists) return 'no attestations yet'
  const bySeverity = SEVERITIES.map((name) => `${counts[name]} ${severityShown(name)}`).join(', ')
  const lines = [`${counted(total, 'drift')} among ${counted(attestations, 'attestation')}: ${bySeverity}`]
  if (damagedLines > 0) lines.push(`${counted(damagedLines, 'line')} of the log can't be read: driftlock doctor`)
  if (drift.length > 0) lines.push('', driftTable(drift))
  if (drift.length < total) lines.push(`… ${counted(total - drift.length, 'more', 'more')}: --limit ${total}`)
  return lines.join('\n')
}

/** @param {Drift[]} drift */
function driftTable(drift) {
  const rows = drift.map((record) => [
    shown(record.timestamp, 30),
    severityShown(record.severity),
    [record.prompt && 'prompt', record.persona && 'persona'].filter(Boolean).join(', '),
    shown(record.taskId),
    shown(record.phase, 20),
    shown(record.agentType ?? '-', 20),
    `${shown(record.baselineHash.slice(0, 8) || '-')} → ${shown(record.promptHash.slice(0, 8) || '-')}`,
  ])
  return table(['AT', 'SEVERITY', 'OF', 'TASK', 'PHASE', 'AGENT', 'BASELINE → PROMPT'], rows)
}
