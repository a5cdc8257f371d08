'use strict'

// The status page and its data, to be mounted in any HTTP server.

const { createHash } = require('node:crypto')
const { readFileSync } = require('node:fs')
const { isIP } = require('node:net')
const { join } = require('node:path')
const { Observer } = require('../snapshot.js')

/** @typedef {import('node:http').IncomingMessage} Request */
/** @typedef {import('node:http').ServerResponse} Response */
/** @typedef {(request: Request, response: Response) => void | Promise<void>} Handler */

/**
 * The handlers by path: `/` is the page, `/api/status` what it shows, as `driftlock status --json` answers it.
 *
 * Each refuses requests whose Host is neither a loopback name nor the address they came in by (DNS rebinding): a name
 * that somebody else may have pointed here.
 *
 * @param {string} root the workspace's root
 * @returns {Record<string, Handler>}
 */
function makeRoutes(root) {
  const observer = new Observer(root)
  const html = readFileSync(join(__dirname, 'index.html'), 'utf8')
  const policy = policyOf(html)
  const isAnswered = (/** @type {Request} */ request, /** @type {Response} */ response) => {
    if (!isKnownHost(request)) {
      sendJson(response, 421, failure('HOST_REFUSED', 'this server answers to loopback names and its own address only'))
    } else if (request.method !== 'GET' && request.method !== 'HEAD') {
      response.setHeader('allow', 'GET, HEAD')
      sendJson(response, 405, failure('METHOD', 'GET and HEAD are all there is'))
    } else return false
    return true
  }
  return {
    '/': (request, response) => {
      if (isAnswered(request, response)) return
      send(response, 200, 'text/html; charset=utf-8', html, { 'content-security-policy': policy })
    },
    '/api/status': async (request, response) => {
      if (isAnswered(request, response)) return
      try {
        sendJson(response, 200, await observer.look())
      } catch (error) {
        sendJson(response, 500, failure('DEFECT', String(/** @type {Error} */ (error).message)))
      }
    },
  }
}

/** @param {string} code @param {string} message */
const failure = (code, message) => ({ error: { code, message } })

/** @param {Response} response @param {number} status @param {unknown} value */
const sendJson = (response, status, value) =>
  send(response, status, 'application/json; charset=utf-8', JSON.stringify(value))

/**
 * @param {Response} response
 * @param {number} status
 * @param {string} type
 * @param {string} body
 * @param {Record<string, string>} [more]
 */
function send(response, status, type, body, more = {}) {
  const safety = {
    'cache-control': 'no-store',
    'cross-origin-resource-policy': 'same-origin',
    'referrer-policy': 'no-referrer',
    'x-content-type-options': 'nosniff',
  }
  response.writeHead(status, { 'content-type': type, 'content-length': Buffer.byteLength(body), ...safety, ...more })
  response.end(response.req.method === 'HEAD' ? undefined : body)
}

/** Nothing but the page's own style and script may be used. @param {string} html */
function policyOf(html) {
  const hashOf = (/** @type {string} */ tag) => {
    const content = new RegExp(`<${tag}[^>]*>([^]*?)</${tag}>`).exec(html)?.[1] ?? ''
    return `'sha256-${createHash('sha256').update(content).digest('base64')}'`
  }
  return [
    "default-src 'none'",
    `script-src ${hashOf('script')}`,
    `style-src ${hashOf('style')}`,
    "connect-src 'self'",
    'img-src data:',
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join('; ')
}

/** @param {Request} request */
const pathOfRequest = (request) => (request.url ?? '/').split('?', 1)[0] ?? '/'

/** @param {string} host a name or an address */
function isLoopback(host) {
  const name = host.toLowerCase()
  return name === 'localhost' || name === '::1' || (isIP(name) === 4 && name.startsWith('127.'))
}

/** @param {Request} request */
function isKnownHost(request) {
  const [, ipv6, name] = /^(?:\[([^\]]+)\]|([^:]+))(?::\d+)?$/.exec(request.headers.host ?? '') ?? []
  const host = ipv6 ?? name
  if (host === undefined) return false
  const own = request.socket.localAddress?.replace(/^::ffff:/, '')
  return isLoopback(host) || host.toLowerCase() === own?.toLowerCase()
}

module.exports = { isLoopback, makeRoutes, pathOfRequest }
