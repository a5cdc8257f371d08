'use strict'

// What a workspace is like at one moment: for `driftlock status`, and again and again for the status page.

const { DriftSummary, sumOf } = require('./drift.js')
const { Journal } = require('./journal.js')
const { pathOf, version, withLeases } = require('./workspace.js')

const LAST_ENTRIES = 20
/** A write-ahead log larger than this has a reader that doesn't end, or a checkpoint that can't. */
const LARGE_LOG = 64 << 20

/** @typedef {Awaited<ReturnType<Observer['look']>>} Snapshot */
/** @typedef {Snapshot['leases'][number]} LeaseShown */

/** @param {import('../index.js').LeaseListing} listing */
const leaseShown = ({ lease, host, pid, heldMs, remainingMs, waiters }) => ({
  taskId: lease.task_id,
  phase: /** @type {string} */ (lease.phase),
  agentId: lease.agent_id,
  host,
  pid,
  heldMs,
  remainingMs,
  expired: remainingMs === 0,
  waiters,
  renewedCount: lease.renewed_count,
  acquiredAt: lease.acquired_at,
  expiresAt: lease.expires_at,
  leaseId: lease.lease_id,
  fencingToken: lease.fencing_token,
})

/** The end of the ledger. Entries of any content may be in it. */
class LedgerEnd {
  entries = 0
  /** @type {Record<string, unknown>[]} */
  last = []

  /** @param {Record<string, unknown>} entry */
  add(entry) {
    this.entries++
    this.last.push(entry)
    if (this.last.length > LAST_ENTRIES) this.last.shift()
  }

  reset() {
    this.entries = 0
    this.last = []
  }

  /** The last entries, newest first, by what people ask for. */
  shown() {
    return this.last.toReversed().map((entry) => ({
      timestamp: textOf(entry.timestamp),
      taskId: textOf(entry.task_id),
      fromPhase: entry.from_phase == null ? null : textOf(entry.from_phase),
      toPhase: textOf(entry.to_phase),
      evidenceValidated: entry.evidence_validated === true,
      evidenceArtifacts: Array.isArray(entry.evidence_artifacts) ? entry.evidence_artifacts.length : 0,
      agentType: typeof entry.agent_type === 'string' ? entry.agent_type : undefined,
      entryHash: textOf(entry.entry_hash),
    }))
  }
}

/** @param {unknown} value */
const textOf = (value) => (typeof value === 'string' ? value : '')

/** Looks at a workspace; at the second and later looks it reads only what the journals have got meanwhile. */
class Observer {
  #root
  #attestations
  #drift = new DriftSummary()
  #ledger
  #ledgerEnd = new LedgerEnd()
  /** @type {Promise<Snapshot> | undefined} */
  #looking

  /** @param {string} root the workspace's root */
  constructor(root) {
    this.#root = root
    this.#attestations = new Journal(pathOf(this.#root, 'attestations'))
    this.#ledger = new Journal(pathOf(this.#root, 'ledger'))
  }

  get root() {
    return this.#root
  }

  /** The state now. Those who ask at the same time get the same answer. */
  look() {
    this.#looking ??= this.#look().finally(() => {
      this.#looking = undefined
    })
    return this.#looking
  }

  async #look() {
    const [database, drift, ledger] = await Promise.all([
      failuresTold(() => this.#readLeases()),
      failuresTold(() => this.#readDrift()),
      failuresTold(() => this.#readLedger()),
    ])
    const leases = database.leases ?? []
    const snapshot = {
      workspace: this.#root,
      at: new Date().toISOString(),
      version: version(),
      database: { state: database.state, error: database.error, ...database.health },
      totals: {
        active: leases.filter(({ expired }) => !expired).length,
        expired: leases.filter(({ expired }) => expired).length,
        waiters: leases.reduce((sum, { waiters }) => sum + waiters, 0),
        contentionEvents: database.stats?.contentionEvents ?? 0,
        averageHoldSeconds: database.stats?.averageHoldTime ?? 0,
      },
      leases,
      drift,
      ledger,
    }
    return { ...snapshot, problems: problemsOf(snapshot) }
  }

  async #readLeases() {
    const found = await withLeases(this.#root, async (manager) => {
      const [listed, stats, health] = await Promise.all([
        manager.listLeases(),
        manager.getStats(),
        manager.health(),
      ])
      return { state: /** @type {const} */ ('ok'), leases: listed.map(leaseShown), stats, health }
    })
    return found ?? { state: /** @type {const} */ ('none') }
  }

  async #readDrift() {
    const summary = this.#drift
    await this.#attestations.read(
      (record) => summary.add(record),
      () => summary.reset(),
    )
    const timeline = summary.timeline()
    return {
      state: this.#attestations.exists ? /** @type {const} */ ('ok') : /** @type {const} */ ('none'),
      attestations: summary.attestations,
      damagedLines: this.#attestations.damagedLines,
      all: { ...summary.all },
      last24h: sumOf(timeline),
      timeline,
    }
  }

  async #readLedger() {
    const end = this.#ledgerEnd
    await this.#ledger.read(
      (entry) => end.add(entry),
      () => end.reset(),
    )
    const last = end.shown()
    return {
      state: this.#ledger.exists ? /** @type {const} */ ('ok') : /** @type {const} */ ('none'),
      entries: end.entries,
      damagedLines: this.#ledger.damagedLines,
      lastHash: last[0]?.entryHash ?? 'genesis',
      last,
    }
  }
}

/**
 * What failed is told in its place: the rest can still be seen.
 *
 * @template T
 * @param {() => Promise<T>} read
 * @returns {Promise<T | Failed>}
 * @typedef {{state: 'failed', error: {code: string, message: string}} & Partial<Record<string, never>>} Failed
 */
async function failuresTold(read) {
  try {
    return await read()
  } catch (error) {
    const { code = 'DEFECT', message } = /** @type {NodeJS.ErrnoException} */ (error)
    return /** @type {Failed} */ ({ state: 'failed', error: { code, message } })
  }
}

/** @param {any} snapshot @returns {string[]} what is wrong at a glance */
function problemsOf({ database, drift, ledger }) {
  const problems = []
  for (const [name, part] of Object.entries({ database, attestations: drift, ledger })) {
    if (part.state === 'failed') problems.push(`the ${name} can't be read: ${part.error.message}`)
    if (part.damagedLines > 0) problems.push(`the ${name} have damaged lines: driftlock doctor`.replace('ledger have', 'ledger has'))
  }
  if (database.wal === false) problems.push('the database is not in WAL mode: driftlock doctor')
  if (database.fileSystem?.locksExclude === false) problems.push('locks may not exclude on this file system: driftlock doctor')
  if (database.logBytes > LARGE_LOG) problems.push("the database's log is large: driftlock doctor")
  return problems
}

module.exports = { LARGE_LOG, Observer, leaseShown }
