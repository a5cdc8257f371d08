// The independent check: computes with nothing of the package what the files must say, and lists what is wrong.

import { createHash } from 'node:crypto'
import { changedPromptFor, keyOf, PHASES, promptFor } from './tasks.mjs'

/** @typedef {import('./tasks.mjs').Task} Task */
/** @typedef {import('./results.mjs').Results} Results */

/**
 * @typedef {object} Expectation
 * @property {Task[]} tasks
 * @property {Set<string>} driftKeys the (task, phase) pairs whose prompt was changed on purpose
 * @property {Map<string, number>} interrupted how often a (task, phase) may have been begun and not finished
 */

/** Severity of a drift, as the package promises it. */
const HIGH = ['VERIFY', 'REVIEW', 'MONITOR']
const LOW = ['STRATEGIZE', 'SPEC', 'PLAN', 'AFP_ALIGNMENT']

/** @param {string} text */
const sha256 = (text) => createHash('sha256').update(text).digest('hex')

/**
 * @param {Results} results
 * @param {Expectation} expectation
 * @returns {string[]} the violations; none if all is well
 */
export function checkResults(results, expectation) {
  return [
    ...checkChain(results.ledger),
    ...checkTransitions(results.ledger, expectation),
    ...checkAttestations(results.attestations, expectation),
    ...checkBaselines(results.baselines, expectation),
    ...checkLeases(results.leases, expectation),
  ]
}

/**
 * Each entry carries the hash of the one before it, and its own is right.
 * @param {Results['ledger']} ledger
 */
export function checkChain(ledger) {
  const violations = []
  const ids = new Set()
  let previous = 'genesis'
  for (const [index, entry] of ledger.entries()) {
    if (entry.previous_hash !== previous) violations.push(`ledger: the chain is broken at entry ${index}`)
    if (entry.entry_hash !== entryHash(entry)) violations.push(`ledger: entry ${index} has a wrong entry_hash`)
    if (ids.has(entry.entry_id)) violations.push(`ledger: entry ${index} repeats entry_id ${entry.entry_id}`)
    ids.add(entry.entry_id)
    previous = entry.entry_hash
  }
  return violations
}

/** @param {Record<string, any>} entry */
export function entryHash(entry) {
  const { entry_id, timestamp, previous_hash, task_id, from_phase, to_phase } = entry
  const { evidence_artifacts, evidence_validated, agent_type, duration_ms } = entry
  return sha256(
    JSON.stringify({
      entry_id,
      timestamp,
      previous_hash,
      task_id,
      from_phase,
      to_phase,
      evidence_artifacts,
      evidence_validated,
      agent_type,
      duration_ms,
    }),
  )
}

/**
 * Each phase of each task once, in order, each from the one before it, on the evidence of its prompt.
 * @param {Results['ledger']} ledger
 * @param {Expectation} expectation
 */
export function checkTransitions(ledger, { tasks }) {
  const violations = []
  const byTask = groupBy(ledger, (entry) => entry.task_id)
  for (const task of tasks) {
    const { taskId } = task
    const entries = byTask.get(taskId) ?? []
    byTask.delete(taskId)
    const counts = groupBy(entries, (entry) => entry.to_phase)
    for (const phase of PHASES) {
      const count = counts.get(phase)?.length ?? 0
      if (count !== 1) violations.push(`ledger: ${keyOf(taskId, phase)} was done ${count} times`)
      for (const { evidence_artifacts } of counts.get(phase) ?? []) {
        if (evidence_artifacts?.[0] === `prompt:${promptHash(promptFor(task, phase))}`) continue
        violations.push(`ledger: ${keyOf(taskId, phase)} does not name the prompt that it was done by`)
      }
    }
    const path = entries.map((entry) => `${entry.from_phase} → ${entry.to_phase}`)
    const wrong = path.findIndex((step, i) => step !== `${PHASES[i - 1] ?? null} → ${PHASES[i]}`)
    if (wrong >= 0) violations.push(`ledger: ${taskId} leaves the order of phases with ${path[wrong]}`)
  }
  for (const taskId of byTask.keys()) violations.push(`ledger: ${taskId} is no task of this run`)
  return violations
}

/**
 * One attestation of each (task, phase), without drift, and one with drift where it was injected; one more for each
 * time that an agent ended between its attestation and its append.
 * @param {Results['attestations']} attestations
 * @param {Expectation} expectation
 */
export function checkAttestations(attestations, { tasks, driftKeys, interrupted }) {
  const violations = []
  const byKey = groupBy(attestations, (record) => keyOf(record.task_id, record.phase))
  for (const { task, phase, key } of pairs(tasks)) {
    const records = byKey.get(key) ?? []
    byKey.delete(key)
    const baseline = promptHash(promptFor(task, phase))
    const [drifted, plain] = [true, false].map((drift) => records.filter((r) => r.drift_detected === drift))
    const most = 1 + (interrupted.get(key) ?? 0)
    if (plain.length < 1 || plain.length > most || plain.some((record) => record.prompt_hash !== baseline)) {
      violations.push(`attestations: ${key} was attested ${plain.length} times, or not with its own prompt`)
    }
    if (records.filter((record) => record.baseline_hash === undefined).length !== 1) {
      violations.push(`attestations: ${key} has not exactly one first attestation`)
    }
    if (records.some((record) => (record.baseline_hash ?? baseline) !== baseline)) {
      violations.push(`attestations: ${key} was compared with a wrong baseline`)
    }
    const expected = driftKeys.has(key) ? [promptHash(changedPromptFor(task, phase))] : []
    if (drifted.map((record) => record.prompt_hash).join() !== expected.join()) {
      violations.push(
        `attestations: ${key} drifted ${drifted.length} times instead of ${expected.length}, or otherwise`,
      )
    }
    const severity = HIGH.includes(phase) ? 'high' : LOW.includes(phase) ? 'low' : 'medium'
    if (drifted.some((r) => r.severity !== severity) || plain.some((r) => r.severity !== 'none')) {
      violations.push(`attestations: ${key} has a wrong severity`)
    }
  }
  for (const key of byKey.keys()) violations.push(`attestations: ${key} is nothing of this run`)
  return violations
}

/**
 * The hash of a prompt as the package promises it.
 * @param {ReturnType<typeof promptFor>} prompt
 */
export function promptHash({ phase, taskId, requirements, qualityGates, artifacts, contextSummary, agentType }) {
  const sorted = (/** @type {string[]} */ list) => [...list].sort()
  return sha256(
    JSON.stringify({
      phase,
      taskId,
      requirements: sorted(requirements),
      qualityGates: sorted(qualityGates),
      artifacts: sorted(artifacts),
      contextSummary,
      agentType,
    }),
  )
}

/**
 * The first prompt of each (task, phase) is its baseline, still in version 1.
 * @param {Results['baselines']} baselines
 * @param {Expectation} expectation
 */
export function checkBaselines(baselines, { tasks }) {
  const violations = []
  const left = new Set(Object.keys(baselines))
  for (const { task, phase, key } of pairs(tasks)) {
    const baseline = left.delete(key) ? baselines[key] : undefined
    if (!baseline) violations.push(`baselines: ${key} is missing`)
    else if (baseline.hash !== promptHash(promptFor(task, phase)) || baseline.version !== 1) {
      violations.push(`baselines: ${key} is not its first prompt`)
    }
  }
  for (const key of left) violations.push(`baselines: ${key} is nothing of this run`)
  return violations
}

/**
 * No lease is left but what an interrupted agent could not release.
 * @param {Results['leases']} leases
 * @param {Expectation} expectation
 * @param {number} now
 */
export function checkLeases(leases, { interrupted }, now = Date.now()) {
  return leases
    .filter((lease) => !interrupted.has(keyOf(lease.task_id, lease.phase)) || Date.parse(lease.expires_at) > now)
    .map((lease) => `leases: ${keyOf(lease.task_id, lease.phase)} is left, held by ${lease.agent_id}`)
}

/** @param {Task[]} tasks */
const pairs = (tasks) =>
  tasks.flatMap((task) => PHASES.map((phase) => ({ task, phase, key: keyOf(task.taskId, phase) })))

/**
 * @template T
 * @param {T[]} list
 * @param {(value: T) => string} keyFor
 * @returns {Map<string, T[]>}
 */
function groupBy(list, keyFor) {
  /** @type {Map<string, T[]>} */
  const groups = new Map()
  for (const value of list) {
    const key = keyFor(value)
    const group = groups.get(key)
    if (group) group.push(value)
    else groups.set(key, [value])
  }
  return groups
}
