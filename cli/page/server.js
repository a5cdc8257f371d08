'use strict'

// `driftlock status --serve`: the status page by itself. The exporter serves the same routes beside its own.

const { once } = require('node:events')
const { createServer } = require('node:http')
const { CommandError, UsageError } = require('../exit.js')
const { print } = require('../output.js')
const { untilStopped } = require('../stop.js')
const { shown } = require('../text.js')
const { findWorkspace } = require('../workspace.js')
const { isLoopback, makeRoutes, pathOfRequest } = require('./routes.js')

/**
 * Serves the page until the process is told to end.
 *
 * @param {{workspace: string, listen: string}} options
 */
async function serve({ workspace, listen }) {
  const address = addressOf(listen, '--listen', '127.0.0.1:9465')
  const { root } = findWorkspace(workspace)
  const routes = makeRoutes(root)
  const server = createServer((request, response) => {
    const path = pathOfRequest(request)
    const handler = Object.hasOwn(routes, path) ? routes[path] : undefined
    if (handler) return void handler(request, response)
    response.writeHead(404, { 'content-type': 'text/plain; charset=utf-8' }).end('not found: the page is at /\n')
  })
  const { port } = await listenOn(server, address)
  const host = address.host.includes(':') ? `[${address.host}]` : address.host
  print(`The status of ${shown(root, 4096)} is on http://${host}:${port}/ until Ctrl+C`)
  if (!isLoopback(address.host)) {
    process.stderr.write(
      `warning: whoever can reach ${shown(host)} can see task ids, agents and reasons; nobody is asked who he is\n`,
    )
  }
  await once(untilStopped(), 'abort')
  server.close()
  server.closeAllConnections()
}

/**
 * @param {string} address HOST:PORT, an IPv6 address in brackets
 * @param {string} option where it was given
 * @param {string} example
 */
function addressOf(address, option, example) {
  const [, ipv6, name, digits] = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(address) ?? []
  const host = ipv6 ?? name
  const port = Number(digits)
  if (host && port <= 65_535) return { host, port }
  throw new UsageError(`${option} takes HOST:PORT such as ${example}; IPv6 as [::1]:PORT; got ${shown(address)}`)
}

/**
 * @param {import('node:http').Server} server
 * @param {{host: string, port: number}} address
 */
async function listenOn(server, { host, port }) {
  server.listen(port, host)
  try {
    await once(server, 'listening')
  } catch (error) {
    const { code, message } = /** @type {NodeJS.ErrnoException} */ (error)
    const reason = code === 'EADDRINUSE' ? 'another program listens there' : message
    throw new CommandError(
      'CANNOT_LISTEN',
      `Can't listen on ${shown(host)}:${port}: ${reason}. Choose another: --listen HOST:PORT`,
    )
  }
  return /** @type {import('node:net').AddressInfo} */ (server.address())
}

module.exports = { addressOf, listenOn, serve }
