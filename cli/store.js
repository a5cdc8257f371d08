'use strict'

// Where leases and records are, if not in the workspace: on the server that --store or DRIFTLOCK_STORE names.

// It makes the errors of the calls below.
const { PhaseLedger } = require('../index.js')
const binding = /** @type {any} */ (require('../binding.js'))
const { UsageError } = require('./exit.js')

/** How a server's URL may look in what others write: a password may be in it. */
const URLS = /postgres(?:ql)?:\/\/\S*(?:@|password=)\S*/gi

/**
 * Has all of this process go to the store of the command line.
 *
 * @param {string | undefined} store
 */
function chooseStore(store) {
  if (store === undefined) return
  try {
    new PhaseLedger('.', { store })
  } catch (error) {
    const { code, message } = /** @type {import('../index.js').DriftlockError} */ (error)
    throw code === 'INVALID_ARGUMENT' ? new UsageError(`--${message}`) : error
  }
  process.env.DRIFTLOCK_STORE = store
}

/** Whether a server has the leases and records. */
const onServer = () => !['', 'sqlite'].includes(process.env.DRIFTLOCK_STORE ?? '')

/** The server, for people: its address, database and schema. */
const serverShown = () => /** @type {string} */ (binding.__serverAddress())

/** A text without credentials. @param {string} text */
const withoutCredentials = (text) => text.replace(URLS, 'postgres://…')

/** What somebody has made on the server. @returns {Promise<{leases: boolean, attestations: boolean, ledger: boolean}>} */
const serverParts = () => binding.__serverParts()

/** Whether notifications come from the server, which they don't through some poolers. @returns {Promise<boolean>} */
const serverNotifies = () => binding.__serverNotifies()

/**
 * The records of drift on the server since a time, in milliseconds since the Unix epoch.
 *
 * @param {number} since
 * @returns {Promise<{attestations: number, drift: Record<string, unknown>[]}>}
 */
const driftsSince = (since) => binding.__driftsSince(since)

/** The baselines on the server, as the file would have them. @returns {Promise<Record<string, unknown>>} */
const serverBaselines = () => binding.__baselines()

/** The last entries of the ledger on the server. @param {number} count @returns {Promise<Record<string, unknown>[]>} */
const ledgerEnd = (count) => binding.__ledgerEnd(count)

module.exports = {
  chooseStore,
  driftsSince,
  ledgerEnd,
  onServer,
  serverBaselines,
  serverNotifies,
  serverParts,
  serverShown,
  withoutCredentials,
}
