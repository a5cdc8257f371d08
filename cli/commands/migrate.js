'use strict'

const { SingleBar } = require('cli-progress')
// It makes the errors of the calls below.
require('../../index.js')
const binding = /** @type {any} */ (require('../../binding.js'))
const { answer, table } = require('../output.js')
const { count, counted, shown } = require('../text.js')
const { findWorkspace } = require('../workspace.js')

exports.command = 'migrate'
exports.describe = 'Move to PostgreSQL, or back: copy leases, baselines, attestations and the ledger'

/** @param {import('yargs').Argv} parser */
exports.builder = (parser) =>
  parser
    .option('from', {
      type: 'string',
      requiresArg: true,
      demandOption: true,
      describe: 'Where the state is: a workspace, or the URL of a PostgreSQL schema',
    })
    .option('to', { type: 'string', requiresArg: true, demandOption: true, describe: 'Where it is to be; likewise' })
    .option('dry-run', { type: 'boolean', default: false, describe: 'Only say what would be copied' })
    .example('$0 migrate --from . --to postgres://agents@db.example/agents --dry-run', 'what would be copied')
    .epilogue(
      'The target must be empty, or have what an earlier run has copied: a run that was ended goes on, and one more run ' +
        'copies what has come since. First copy while the agents work; then stop them, run it once more, and start them ' +
        'with the new store.',
    )

const PARTS = /** @type {const} */ ({
  entries: 'ledger entries',
  attestations: 'attestations',
  resets: 'resets of baselines',
  baselines: 'baselines',
  leases: 'leases held',
})

/**
 * @typedef {Record<keyof typeof PARTS, {total: number, copied: number}>} Parts
 * @typedef {{from: string, to: string, leftOut: number} & Parts} Report
 * @param {{json: boolean, from: string, to: string, dryRun: boolean}} options
 */
exports.handler = async (options) => {
  const { dryRun } = options
  const [from, to] = [placeOf(options.from), placeOf(options.to)]
  const bar = showProgress()
  /** @type {Report} */
  let report
  try {
    report = await binding.__migrate(from, to, dryRun, bar.show)
  } finally {
    bar.stop()
  }
  answer(options, { dryRun, verified: !dryRun, ...report }, () => toText(dryRun, report))
}

/** A bar on a terminal, and nothing elsewhere. */
function showProgress() {
  const format = '  {bar} {value} of {total} {what} | {duration_formatted}'
  const bar = new SingleBar({ format, hideCursor: true, clearOnComplete: true, stream: process.stderr })
  let shown = ''
  return {
    /** @param {{what: string, copied: number, of: number}} progress */
    show({ what, copied, of }) {
      if (what !== shown) bar.start(of, 0, { what })
      shown = what
      bar.update(copied)
    },
    stop: () => bar.stop(),
  }
}

/** A worktree stands for its repository, as everywhere. @param {string} place */
const placeOf = (place) => (/^postgres(ql)?:\/\//.test(place) ? place : findWorkspace(place).root)

/** @param {boolean} dryRun @param {Report} report */
function toText(dryRun, report) {
  const { from, to } = report
  const names = /** @type {(keyof typeof PARTS)[]} */ (Object.keys(PARTS))
  const rows = names.map((name) => [PARTS[name], count(report[name].total), count(report[name].copied)])
  const lines = [
    `${dryRun ? 'would copy' : 'copied'} ${shown(from, 4096)} to ${shown(to, 4096)}`,
    table(['WHAT', '#IN ALL', dryRun ? '#TO COPY' : '#COPIED'], rows),
  ]
  if (report.leftOut > 0) lines.push(`${counted(report.leftOut, 'damaged line')} left out: driftlock doctor`)
  if (!dryRun) lines.push('verified: numbers, the chain, baselines and leases are the same in both')
  return lines.join('\n')
}
