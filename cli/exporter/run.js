'use strict'

// `driftlock exporter`: polls, serves and sends until it is told to end.

const { setTimeout: sleep } = require('node:timers/promises')
const { CommandError } = require('../exit.js')
const { print } = require('../output.js')
const { isLoopback, makeRoutes } = require('../page/routes.js')
const { listenOn } = require('../page/server.js')
const { untilStopped } = require('../stop.js')
const { shown } = require('../text.js')
const { Exporter } = require('./exporter.js')
const { metricsRoutes, serverOf } = require('./server.js')
const { StatsdClient } = require('./statsd.js')

const LAST_ANSWERS_MS = 1000

/** @typedef {{host: string, port: number}} Address */

/**
 * @param {string} root the workspace's root
 * @param {{listen: Address, statsd: Address | undefined, interval: number, fromNow: boolean}} options
 */
async function runExporter(root, { listen, statsd, interval, fromNow }) {
  const client = statsd && (await StatsdClient.open(statsd))
  const exporter = new Exporter(root, { fromNow, differences: client !== undefined })
  const warn = warnOnce()
  const poll = async () => {
    const polled = await exporter.poll()
    warn('problems', polled.problems.join('; '))
    warn('store', polled.storeProblem ?? '')
    if (client && polled.differences) {
      await client.send(polled.differences).then(
        () => warn('statsd', ''),
        (error) => warn('statsd', `what was counted could not be sent to the StatsD server: ${error.message}`),
      )
    }
    return polled
  }
  const { problems } = await poll()
  if (problems.length > 0) throw new CommandError('CANNOT_EXPORT', problems.join('; '))

  const scraped = () => exporter.scraped().catch((error) => warn('scraped', error.message))
  const server = serverOf({ ...makeRoutes(root), ...metricsRoutes(poll, scraped) })
  const stopped = untilStopped()
  const { port } = await listenOn(server, listen)
  const host = listen.host.includes(':') ? `[${listen.host}]` : listen.host
  if (!isLoopback(listen.host)) {
    process.stderr.write(
      `warning: whoever can reach ${shown(host)} can see the metrics, task ids and agents; nobody is asked who he is\n`,
    )
  }
  print(`The metrics of ${shown(root, 4096)} are on http://${host}:${port}/metrics until Ctrl+C`)
  await pollUntil(stopped, interval, poll)
  // A scrape that is under way may end; a client that doesn't read is not waited for.
  setTimeout(() => server.closeAllConnections(), LAST_ANSWERS_MS).unref()
  await new Promise((resolve) => server.close(resolve))
  await poll()
  client?.close()
}

/**
 * @param {AbortSignal} stopped
 * @param {number} interval in milliseconds
 * @param {() => Promise<unknown>} poll
 */
async function pollUntil(stopped, interval, poll) {
  while (!stopped.aborted) {
    await sleep(interval, undefined, { signal: stopped }).catch(() => {})
    if (!stopped.aborted) await poll()
  }
}

/** Warns of a problem when it comes and not while it lasts. */
function warnOnce() {
  /** @type {Map<string, string>} */
  const told = new Map()
  return (/** @type {string} */ about, /** @type {string} */ problem) => {
    if ((told.get(about) ?? '') === problem) return
    told.set(about, problem)
    process.stderr.write(problem ? `warning: ${shown(problem, 4096)}\n` : `${about}: well again\n`)
  }
}

module.exports = { runExporter }
