'use strict'

const { EXIT, UsageError } = require('../exit.js')
const { answer } = require('../output.js')
const { shown } = require('../text.js')
const { findWorkspace } = require('../workspace.js')

const DEFAULT_LISTEN = '127.0.0.1:9464'
const DEFAULT_STATSD = '127.0.0.1:8125'
const DEFAULT_INTERVAL_MS = 5000

exports.command = 'exporter'
exports.describe = 'Metrics for Prometheus and StatsD, counted over all processes and restarts'

/** @param {import('yargs').Argv} parser */
exports.builder = (parser) =>
  parser
    .option('listen', {
      type: 'string',
      requiresArg: true,
      default: DEFAULT_LISTEN,
      describe: 'HOST:PORT to serve /metrics, /healthz and the status page on; port 0 takes any that is free',
    })
    .option('statsd', {
      type: 'string',
      requiresArg: true,
      describe: `HOST:PORT of a StatsD server to send to as well, such as ${DEFAULT_STATSD}`,
    })
    .option('interval', {
      type: 'string',
      requiresArg: true,
      default: String(DEFAULT_INTERVAL_MS),
      describe: 'Milliseconds between two looks at the files, from 100 to 3600000; each scrape looks as well',
    })
    .option('once', { type: 'boolean', default: false, describe: 'Print the metrics and end; writes nothing' })
    .option('from-now', {
      type: 'boolean',
      default: false,
      describe: 'At the very first start leave out what is in the files already',
    })
    .example('$0 exporter', `metrics on http://${DEFAULT_LISTEN}/metrics`)
    .example(`$0 exporter --statsd ${DEFAULT_STATSD} --from-now`, 'to StatsD too, without what was before')
    .example('$0 exporter --once | promtool check metrics', 'the metrics as they are now')

/**
 * @typedef {{workspace: string, json: boolean, listen: string, statsd?: string, interval: string, once: boolean, fromNow: boolean}} Options
 * @param {Options} options
 */
exports.handler = async (options) => {
  const { once, fromNow, json } = options
  if (json && !once) throw new UsageError('--json gives one document; it goes with --once only')
  if (once && options.statsd !== undefined) throw new UsageError('--once prints; it does not go with --statsd')
  const { addressOf } = require('../page/server.js')
  const listen = addressOf(options.listen, '--listen', DEFAULT_LISTEN)
  const statsd = options.statsd === undefined ? undefined : addressOf(options.statsd, '--statsd', DEFAULT_STATSD)
  const interval = intervalOf(options.interval)
  const { root } = findWorkspace(options.workspace)
  if (!once) return require('../exporter/run.js').runExporter(root, { listen, statsd, interval, fromNow })

  const { Exporter } = require('../exporter/exporter.js')
  const { toPrometheus } = require('../../prometheus.js')
  const { families, problems, storeProblem } = await new Exporter(root, { fromNow, look: true }).poll()
  answer(options, families, (families) => toPrometheus(families, 'driftlock_').trimEnd())
  for (const problem of [...problems, storeProblem]) {
    if (problem === undefined) continue
    process.stderr.write(`driftlock: ${shown(problem, 4096)}\n`)
    process.exitCode = EXIT.FAILED
  }
}

/** @param {string} text */
function intervalOf(text) {
  const interval = Number(text)
  if (Number.isInteger(interval) && interval >= 100 && interval <= 3_600_000) return interval
  throw new UsageError(`--interval takes whole milliseconds from 100 to 3600000, got ${shown(text)}`)
}
