'use strict'

// What a workspace is like at one moment: for `driftlock status`, and again and again for the status page.

const { DriftSummary, sumOf } = require('./drift.js')
const { PhaseLedger, PromptAttestationManager } = require('../index.js')
const { Journal } = require('./journal.js')
const { driftsSince, ledgerEnd, onServer, serverParts } = require('./store.js')
const { counted } = require('./text.js')
const { pathOf, version, withLeases } = require('./workspace.js')

const LAST_ENTRIES = 20
const DAY_MS = 86_400_000
/** A write-ahead log larger than this has a reader that doesn't end, or a checkpoint that can't. */
const LARGE_LOG = 64 << 20

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

  get lastHash() {
    return textOf(this.last.at(-1)?.entry_hash ?? 'genesis')
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
    this.#attestations = new Journal(pathOf(root, 'attestations'))
    this.#ledger = new Journal(pathOf(root, 'ledger'))
  }

  /**
   * The state now. Those who ask at the same time get the same answer. What can't be read is told in its place, by
   * `state: 'failed'` and `error`, and doesn't hide the rest.
   *
   * @returns {Promise<Snapshot>}
   */
  look() {
    this.#looking ??= this.#look().finally(() => {
      this.#looking = undefined
    })
    return this.#looking
  }

  /** @returns {Promise<Snapshot>} */
  async #look() {
    const [leasesState, driftState, ledgerState] = await Promise.all([
      stateOf(() => this.#readLeases()),
      stateOf(() => this.#readDrift()),
      stateOf(() => this.#readLedger()),
    ])
    const timeline = this.#drift.timeline()
    return snapshotOf(this.#root, this.#leases, {
      database: leasesState,
      drift: {
        ...driftState,
        attestations: this.#drift.attestations,
        damagedLines: this.#attestations.damagedLines,
        all: { ...this.#drift.all },
        last24h: sumOf(timeline),
        timeline,
      },
      ledger: {
        ...ledgerState,
        entries: this.#ledgerEnd.entries,
        damagedLines: this.#ledger.damagedLines,
        lastHash: this.#ledgerEnd.lastHash,
        last: this.#ledgerEnd.shown(),
      },
    })
  }

  /** @type {LeasesFound | null} */
  #leases = null

  async #readLeases() {
    this.#leases = null
    this.#leases = await withLeases(this.#root, async (manager) => {
      const [listed, stats, health] = await Promise.all([manager.listLeases(), manager.getStats(), manager.health()])
      return { leases: listed.map(leaseShown), stats, health }
    })
    return this.#leases !== null
  }

  async #readDrift() {
    const summary = this.#drift
    if (onServer()) {
      if (!(await serverParts()).attestations) return false
      const stats = await new PromptAttestationManager(this.#root).getDriftStats()
      const { drift } = await driftsSince(Date.now() - DAY_MS)
      summary.take(stats.totalAttestations, stats.severityCounts, drift)
      return true
    }
    await this.#attestations.read(
      (record) => summary.add(record),
      () => summary.reset(),
    )
    return this.#attestations.exists
  }

  async #readLedger() {
    const end = this.#ledgerEnd
    if (onServer()) {
      if (!(await serverParts()).ledger) return false
      const [{ totalEntries }, last] = await Promise.all([
        new PhaseLedger(this.#root).getStats(),
        ledgerEnd(LAST_ENTRIES),
      ])
      end.reset()
      for (const entry of last) end.add(entry)
      end.entries = totalEntries
      return true
    }
    await this.#ledger.read(
      (entry) => end.add(entry),
      () => end.reset(),
    )
    return this.#ledger.exists
  }
}

/** @typedef {ReturnType<typeof leaseShown>} LeaseShown */
/** @typedef {{leases: LeaseShown[], stats: import('../index.js').LeaseStats, health: import('../index.js').LeaseHealth}} LeasesFound */
/** @typedef {{state: 'ok' | 'none' | 'failed', error?: {code: string, message: string}}} State */
/** @typedef {ReturnType<typeof snapshotOf>} Snapshot */

/**
 * @param {() => Promise<boolean>} read answers whether there is something
 * @returns {Promise<State>}
 */
async function stateOf(read) {
  try {
    return { state: (await read()) ? 'ok' : 'none' }
  } catch (error) {
    const { code = 'DEFECT', message } = /** @type {NodeJS.ErrnoException} */ (error)
    return { state: 'failed', error: { code, message } }
  }
}

/**
 * @typedef {State & {attestations: number, damagedLines: number, all: Counts, last24h: Counts, timeline: ({from: string} & Counts)[]}} DriftFound
 * @typedef {State & {entries: number, damagedLines: number, lastHash: string, last: ReturnType<LedgerEnd['shown']>}} LedgerFound
 * @typedef {import('./drift.js').Counts} Counts
 * @param {string} workspace
 * @param {LeasesFound | null} found
 * @param {{database: State, drift: DriftFound, ledger: LedgerFound}} parts
 */
function snapshotOf(workspace, found, { database, drift, ledger }) {
  const leases = found?.leases ?? []
  const expired = leases.filter((lease) => lease.expired).length
  return {
    workspace,
    at: new Date().toISOString(),
    version: version(),
    problems: problemsOf(found?.health, { database, attestations: drift, ledger }),
    database: { ...database, ...found?.health },
    totals: {
      active: leases.length - expired,
      expired,
      waiters: leases.reduce((sum, { waiters }) => sum + waiters, 0),
      contentionEvents: found?.stats.contentionEvents ?? 0,
      averageHoldSeconds: found?.stats.averageHoldTime ?? 0,
    },
    leases,
    drift,
    ledger,
  }
}

/**
 * What is wrong at a glance.
 *
 * @param {import('../index.js').LeaseHealth | undefined} health
 * @param {Record<string, State & {damagedLines?: number}>} parts
 */
function problemsOf(health, parts) {
  /** @type {string[]} */
  const problems = []
  for (const [name, { error, damagedLines = 0 }] of Object.entries(parts)) {
    if (error) problems.push(`can't read the ${name}: ${error.message}`)
    if (damagedLines > 0) problems.push(`${counted(damagedLines, 'damaged line')} in the ${name}: driftlock doctor`)
  }
  if (health?.store !== 'sqlite') return problems
  if (!health.wal) problems.push('the database is not in WAL mode: driftlock doctor')
  if (health.fileSystem.locksExclude === false) problems.push('locks may not exclude here: driftlock doctor')
  if (health.logBytes > LARGE_LOG) problems.push("the database's log is large: driftlock doctor")
  return problems
}

module.exports = { LARGE_LOG, Observer, leaseShown }
