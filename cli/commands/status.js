'use strict'

const { setTimeout: sleep } = require('node:timers/promises')
const { EXIT, UsageError } = require('../exit.js')
const { answer, colour, print, severityShown, table } = require('../output.js')
const { SEVERITIES } = require('../drift.js')
const { leaseTable, transition } = require('../tables.js')
const { Observer } = require('../snapshot.js')
const { count, counted, duration, shown } = require('../text.js')
const { untilStopped } = require('../stop.js')
const { openWorkspace } = require('../workspace.js')

const DEFAULT_WATCH_SECONDS = 2
const DEFAULT_LISTEN = '127.0.0.1:9465'

/** @typedef {import('../snapshot.js').Snapshot} Snapshot */

exports.command = 'status'
exports.describe = 'Who holds what, who waits, drift, the ledger: at a glance'

/** @param {import('yargs').Argv} parser */
exports.builder = (parser) =>
  parser
    .option('watch', { type: 'string', describe: 'Show it again and again, each so many seconds (default 2)' })
    .option('serve', { type: 'boolean', default: false, describe: 'Serve it as a live web page instead' })
    .option('listen', {
      type: 'string',
      requiresArg: true,
      default: DEFAULT_LISTEN,
      describe: 'HOST:PORT for --serve; port 0 takes any that is free',
    })
    .example('$0 status', 'the state of the workspace in this folder')
    .example('$0 status --watch 5', 'again each five seconds, until Ctrl+C')
    .example('$0 status --serve', `a page on http://${DEFAULT_LISTEN}/`)
    .example("$0 status --json | jq '.leases[].agentId'", 'who holds leases')

/**
 * @typedef {{workspace: string, json: boolean, watch?: string, serve: boolean, listen: string}} Options
 * @param {Options} options
 */
exports.handler = async (options) => {
  if (options.json && (options.serve || options.watch !== undefined)) {
    throw new UsageError('--json gives one document; it goes neither with --watch nor with --serve')
  }
  if (options.serve && options.watch !== undefined) throw new UsageError('--watch and --serve: one or the other')
  if (options.serve) return require('../page/server.js').serve(options)
  if (options.watch !== undefined) return watch(options.workspace, secondsOf(options.watch))
  const snapshot = await new Observer((await openWorkspace(options)).root).look()
  answer(options, snapshot, toText)
  if ([snapshot.database, snapshot.drift, snapshot.ledger].some(({ state }) => state === 'failed')) {
    process.exitCode = EXIT.FAILED
  }
}

/** @param {string} text */
function secondsOf(text) {
  const seconds = text === '' ? DEFAULT_WATCH_SECONDS : Number(text)
  if (seconds >= 0.1 && seconds <= 86_400) return seconds
  throw new UsageError(`--watch takes seconds from 0.1 to 86400, got ${shown(text)}`)
}

/** @param {string} folder @param {number} seconds */
async function watch(folder, seconds) {
  const observer = new Observer((await openWorkspace({ workspace: folder })).root)
  const signal = untilStopped()
  while (!signal.aborted) {
    const text = toText(await observer.look())
    print(process.stdout.isTTY ? `\x1b[H\x1b[2J${text}` : `${text}\n`)
    await sleep(seconds * 1000, undefined, { signal }).catch(() => {})
  }
}

/** @param {Snapshot} snapshot */
function toText(snapshot) {
  const { database, workspace, at } = snapshot
  const place = 'server' in database ? database.server : workspace
  const head = `${colour('bold', shown(place, 4096))}  ${colour('dim', at)}`
  return [head, leasesText(snapshot), driftText(snapshot), ledgerText(snapshot), healthText(snapshot)].join('\n\n')
}

/** @param {string} name @param {string} rest */
const heading = (name, rest) => `${colour('bold', name)}  ${rest}`

/** @param {{state: string, error?: {message: string}}} part @param {string} none */
const missing = (part, none) => (part.state === 'none' ? none : `can't be read: ${shown(part.error?.message, 1000)}`)

/** @param {Snapshot} snapshot */
function leasesText({ database, leases, totals }) {
  if (database.state !== 'ok') return heading('LEASES', missing(database, 'no database yet'))
  const contention = `${counted(totals.contentionEvents, 'acquisition')} refused so far`
  const line = `${totals.active} held, ${totals.expired} expired, ${totals.waiters} waiting; ${contention}, mean hold ${duration(totals.averageHoldSeconds * 1000)}`
  return [heading('LEASES', line), ...(leases.length > 0 ? [leaseTable(leases)] : [])].join('\n')
}

/** @param {Snapshot} snapshot */
function driftText({ drift }) {
  if (drift.state !== 'ok') return heading('DRIFT', missing(drift, 'no attestations yet'))
  const row = (/** @type {string} */ name, /** @type {Record<string, number>} */ counts) => [
    name,
    ...SEVERITIES.map((severity) => count(counts[severity] ?? 0)),
  ]
  return [
    heading('DRIFT', `among ${counted(drift.attestations, 'attestation')}`),
    table(
      ['', ...SEVERITIES.map((name) => `#${severityShown(name)}`)],
      [row('last 24 h', drift.last24h), row('all', drift.all)],
    ),
  ].join('\n')
}

/** @param {Snapshot} snapshot */
function ledgerText({ ledger }) {
  if (ledger.state !== 'ok') return heading('LEDGER', missing(ledger, 'no ledger yet'))
  const [last] = ledger.last
  const lines = [heading('LEDGER', counted(ledger.entries, 'entry', 'entries'))]
  if (last) {
    lines.push(`last: ${shown(last.taskId)}  ${transition(last)}  ${shown(last.timestamp, 30)}`)
    lines.push(`hash: ${shown(last.entryHash, 64)}`)
  }
  return lines.join('\n')
}

/** @param {Snapshot} snapshot */
function healthText({ problems }) {
  if (problems.length === 0) return heading('HEALTH', colour('green', 'nothing wrong at a glance'))
  return [heading('HEALTH', ''), ...problems.map((problem) => colour('red', `- ${shown(problem, 1000)}`))].join('\n')
}
