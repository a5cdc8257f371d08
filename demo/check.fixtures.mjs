// Results for the tests of the check: what a run without any fault leaves, made without the package.

import { randomUUID } from 'node:crypto'
import { entryHash, promptHash } from './check.mjs'
import { changedPromptFor, driftKeys, keyOf, PHASES, promptFor } from './tasks.mjs'

export const TASKS = [
  { taskId: 'A-1', title: 'First', requirements: ['test:one', 'artifact:two'], contextSummary: 'some context' },
  { taskId: 'A-2', title: 'No requirements', requirements: [], contextSummary: '' },
  { taskId: 'A-3', title: 'Half a pair', requirements: ['metric:R² > 0.5'], contextSummary: '👍'.repeat(300) },
]
/** The prompts changed in it. */
export const DRIFT = driftKeys(TASKS, 3)

/** @returns {import('./results.mjs').Results} */
export function healthyResults() {
  /** @type {import('./results.mjs').Results} */
  const results = { ledger: [], attestations: [], baselines: {}, leases: [] }
  for (const task of TASKS) {
    for (const [index, phase] of PHASES.entries()) {
      const hash = promptHash(promptFor(task, phase))
      results.baselines[keyOf(task.taskId, phase)] = { hash, version: 1, updatedAt: new Date().toISOString() }
      results.attestations.push(attestation(task, phase, hash, {}))
      results.ledger.push(transition(task.taskId, PHASES[index - 1] ?? null, phase, hash))
      if (DRIFT.has(keyOf(task.taskId, phase))) results.attestations.push(drift(task, phase))
    }
  }
  rechain(results.ledger)
  return results
}

/**
 * @param {{taskId: string}} task
 * @param {string} phase
 * @param {string} hash
 * @param {Record<string, unknown>} changes
 */
export function attestation(task, phase, hash, changes) {
  return {
    attestation_id: randomUUID(),
    task_id: task.taskId,
    phase,
    prompt_hash: hash,
    drift_detected: false,
    persona_drift: false,
    severity: 'none',
    baseline_version: 1,
    ...changes,
  }
}

/**
 * @param {import('./tasks.mjs').Task} task
 * @param {import('./tasks.mjs').Phase} phase
 */
export function drift(task, phase) {
  /** @type {Record<string, string>} */
  const severities = { VERIFY: 'high', REVIEW: 'high', MONITOR: 'high', IMPLEMENT: 'medium', PR: 'medium' }
  return attestation(task, phase, promptHash(changedPromptFor(task, phase)), {
    baseline_hash: promptHash(promptFor(task, phase)),
    drift_detected: true,
    severity: severities[phase] ?? 'low',
  })
}

/**
 * @param {string} taskId
 * @param {string | null} from
 * @param {string} to
 * @param {string} hash
 */
export function transition(taskId, from, to, hash) {
  return {
    entry_id: randomUUID(),
    timestamp: new Date().toISOString(),
    previous_hash: '',
    entry_hash: '',
    task_id: taskId,
    from_phase: from,
    to_phase: to,
    evidence_artifacts: [`prompt:${hash}`],
    evidence_validated: true,
    agent_type: 'agent-1',
    duration_ms: 5,
  }
}

/**
 * Makes the chain whole again, so that a test shows that the damage itself is found, not the broken chain.
 * @param {Record<string, any>[]} ledger
 */
export function rechain(ledger) {
  let previous = 'genesis'
  for (const entry of ledger) {
    entry.previous_hash = previous
    entry.entry_hash = entryHash(entry)
    previous = entry.entry_hash
  }
}
