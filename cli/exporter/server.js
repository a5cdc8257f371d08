'use strict'

// The exporter's HTTP server: a table of routes, each path with its handler.

const { createServer } = require('node:http')
const { pathOfRequest } = require('../page/routes.js')
const { CONTENT_TYPE, toPrometheus } = require('../../prometheus.js')

/** @typedef {import('../page/routes.js').Handler} Handler */
/** @typedef {import('node:http').ServerResponse} Response */

/**
 * The exporter's own routes.
 *
 * @param {() => Promise<import('./exporter.js').Polled>} poll
 * @param {() => Promise<void>} scraped called when a client has got what is shown
 * @returns {Record<string, Handler>}
 */
function metricsRoutes(poll, scraped) {
  return {
    '/metrics': async (request, response) => {
      const { families } = await poll()
      if (request.method === 'GET') response.once('finish', () => void scraped())
      send(response, 200, CONTENT_TYPE, toPrometheus(families, 'driftlock_'))
    },
    '/healthz': async (_, response) => {
      const { problems, storeProblem, truncations } = await poll()
      const all = storeProblem === undefined ? problems : [...problems, storeProblem]
      const status = all.length > 0 ? 503 : 200
      const body = { ok: status === 200, problems: all, truncations }
      send(response, status, 'application/json; charset=utf-8', `${JSON.stringify(body)}\n`)
    },
  }
}

/**
 * A server of these routes.
 *
 * @param {Record<string, Handler>} routes
 */
function serverOf(routes) {
  return createServer((request, response) => {
    const path = pathOfRequest(request)
    const handler = Object.hasOwn(routes, path) ? routes[path] : undefined
    if (!handler)
      return send(response, 404, 'text/plain', `There is nothing at this path; try ${Object.keys(routes).join(', ')}\n`)
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      response.setHeader('allow', 'GET, HEAD')
      return send(response, 405, 'text/plain', 'GET and HEAD are all there is\n')
    }
    Promise.resolve(handler(request, response)).catch((error) => {
      if (!response.headersSent) send(response, 500, 'text/plain', `${error.message}\n`)
    })
  })
}

/** @param {Response} response @param {number} status @param {string} type @param {string} body */
function send(response, status, type, body) {
  response.writeHead(status, { 'content-type': type, 'cache-control': 'no-store', 'x-content-type-options': 'nosniff' })
  response.end(response.req.method === 'HEAD' ? undefined : body)
}

module.exports = { metricsRoutes, serverOf }
