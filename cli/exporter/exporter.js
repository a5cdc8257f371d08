'use strict'

// What the exporter shows: the totals that the core counts, and how the workspace is at the moment.

// It makes the errors of the calls below.
require('../../index.js')
const binding = /** @type {any} */ (require('../../binding.js'))
const { version } = require('../workspace.js')

/**
 * Series with one name.
 *
 * @typedef {object} Family
 * @property {string} name without the prefix `driftlock_`
 * @property {string} help
 * @property {'counter' | 'gauge'} type
 * @property {{labels: Record<string, string>, value: number}[]} samples
 */

/**
 * What a poll found.
 *
 * @typedef {object} Polled
 * @property {Family[]} families what to show
 * @property {Family[] | undefined} differences what was counted since the last poll, and the gauges
 * @property {string[]} problems what could not be read or written down, apart from the lease database
 * @property {string | undefined} storeProblem why the lease database could not be read
 * @property {Record<string, number>} truncations
 */

/** @param {string} name @param {string} help @param {Family['samples']} samples @returns {Family} */
const gauge = (name, help, samples) => ({ name, help, type: 'gauge', samples })

/** @param {string} label @param {Record<string, number>} values */
const by = (label, values) => Object.entries(values).map(([name, value]) => ({ labels: { [label]: name }, value }))

/** @param {number} value */
const one = (value) => [{ labels: {}, value }]

class Exporter {
  #root
  #handle
  /** The leases as they last could be read. */
  #leases = { active: 0, expired: 0, oldestAgeSeconds: 0, waiters: 0 }

  /**
   * Becomes the one exporter of a workspace; with `look` only reads what that knows.
   *
   * @param {string} root
   * @param {{fromNow: boolean, look?: boolean, differences?: boolean}} options
   */
  constructor(root, options) {
    this.#root = root
    this.#handle = binding.__exporterOpen(root, options)
  }

  /** Counts what is new. @returns {Promise<Polled>} */
  async poll() {
    let store
    let storeProblem
    try {
      store = await binding.__leaseTotals(this.#root)
      if (store) this.#leases = store
    } catch (error) {
      storeProblem = String(/** @type {Error} */ (error).message)
    }
    const polled = await binding.__exporterPoll(this.#handle, store)
    const { families, differences, problems, truncations, unreadBytes } = polled
    const gauges = this.#gauges(storeProblem === undefined, unreadBytes)
    const info = gauge('exporter_info', 'The exporter; always 1.', [{ labels: { version: version() }, value: 1 }])
    return {
      families: [...families, ...gauges, info],
      differences: differences && [...differences, ...gauges],
      problems,
      storeProblem,
      truncations,
    }
  }

  /** Takes note that what was shown has been seen: only now is shown what was counted before. */
  async scraped() {
    await binding.__exporterScraped(this.#handle)
  }

  /** @param {boolean} storeIsUp @param {Record<string, number>} unreadBytes */
  #gauges(storeIsUp, unreadBytes) {
    const { active, expired, oldestAgeSeconds, waiters } = this.#leases
    return [
      gauge('leases', 'Leases in the store.', by('state', { active, expired })),
      gauge(
        'lease_oldest_age_seconds',
        'How long ago the oldest active lease was acquired; 0 if there is none.',
        one(oldestAgeSeconds),
      ),
      gauge('lease_waiters', 'Agents that wait for a lease.', one(waiters)),
      gauge('unread_bytes', 'What the exporter has not read of a file: half a line, mostly.', by('file', unreadBytes)),
      gauge(
        'store_up',
        'Whether the lease database could be read; 1 also if there is none yet.',
        one(storeIsUp ? 1 : 0),
      ),
    ]
  }
}

module.exports = { Exporter }
