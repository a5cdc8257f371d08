'use strict'

// What the attestation log says of drift. Its lines may be of any content: what isn't as it should be counts as unknown.

const SEVERITIES = Object.freeze(['high', 'medium', 'low', 'unknown'])
/** Severities from the least to the worst, for thresholds; what is unknown is treated as the worst. */
const RANK = Object.freeze({ low: 1, medium: 2, high: 3, unknown: 3 })

const SLOT_MS = 300_000
const SLOTS_A_BUCKET = 12
const BUCKETS = 24

/** @typedef {Record<'high' | 'medium' | 'low' | 'unknown', number>} Counts */

/** @returns {Counts} */
const noCounts = () => ({ high: 0, medium: 0, low: 0, unknown: 0 })

/** @param {unknown} value */
const textOf = (value) => (typeof value === 'string' ? value : '')

/**
 * A record of a drift, or undefined if there was none.
 *
 * @param {Record<string, unknown>} record
 */
function driftOf(record) {
  const prompt = record.drift_detected === true
  const persona = record.persona_drift === true
  if (!prompt && !persona) return undefined
  const named = SEVERITIES.find((severity) => severity === record.severity)
  return {
    timestamp: textOf(record.timestamp),
    taskId: textOf(record.task_id),
    phase: textOf(record.phase),
    severity: /** @type {keyof Counts} */ (named ?? 'unknown'),
    prompt,
    persona,
    promptHash: textOf(record.prompt_hash),
    baselineHash: textOf(record.baseline_hash),
    agentType: typeof record.agent_type === 'string' ? record.agent_type : undefined,
    attestationId: textOf(record.attestation_id),
  }
}

/** Counts drift by severity: over all, and by time for the last 24 hours. */
class DriftSummary {
  attestations = 0
  all = noCounts()
  /** @type {Map<number, Counts>} */
  #slots = new Map()

  /** @param {Record<string, unknown>} record */
  add(record) {
    this.attestations++
    const drift = driftOf(record)
    if (!drift) return
    this.all[drift.severity]++
    const slot = Math.floor(Date.parse(drift.timestamp) / SLOT_MS)
    if (Number.isNaN(slot) || slot <= lastSlot() - SLOTS_A_BUCKET * BUCKETS) return
    const counts = this.#slots.get(slot) ?? noCounts()
    counts[drift.severity]++
    this.#slots.set(slot, counts)
  }

  /**
   * Takes over what a server has counted, and the drift of the last day.
   *
   * @param {number} attestations
   * @param {Record<string, number>} severities
   * @param {Record<string, unknown>[]} lastDay
   */
  take(attestations, severities, lastDay) {
    this.reset()
    for (const record of lastDay) this.add(record)
    this.attestations = attestations
    this.all = { ...noCounts(), ...pick(severities) }
  }

  reset() {
    this.attestations = 0
    this.all = noCounts()
    this.#slots.clear()
  }

  /** The last 24 hours, an hour each, oldest first; the last one ends within five minutes from now. */
  timeline() {
    const last = lastSlot()
    const first = last - SLOTS_A_BUCKET * BUCKETS + 1
    const buckets = Array.from({ length: BUCKETS }, (_, i) => ({
      from: new Date((first + i * SLOTS_A_BUCKET) * SLOT_MS).toISOString(),
      ...noCounts(),
    }))
    for (const [slot, counts] of this.#slots) {
      if (slot < first) this.#slots.delete(slot)
      const bucket = buckets[Math.floor((slot - first) / SLOTS_A_BUCKET)]
      if (bucket) for (const severity of SEVERITIES) addTo(bucket, severity, counts)
    }
    return buckets
  }
}

/** The counts of drift among those by severity. @param {Record<string, number>} severities */
const pick = (severities) =>
  Object.fromEntries(Object.entries(severities).filter(([severity]) => SEVERITIES.includes(severity)))

const lastSlot = () => Math.floor(Date.now() / SLOT_MS)

/** @param {Counts} sum @param {string} severity @param {Counts} counts */
function addTo(sum, severity, counts) {
  const name = /** @type {keyof Counts} */ (severity)
  sum[name] += counts[name]
}

/** @param {Counts[]} list */
function sumOf(list) {
  const sum = noCounts()
  for (const counts of list) for (const severity of SEVERITIES) addTo(sum, severity, counts)
  return sum
}

module.exports = { DriftSummary, RANK, SEVERITIES, driftOf, noCounts, sumOf }
