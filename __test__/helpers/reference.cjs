'use strict'
// What the contract says about hashes, in plain JavaScript and without the package.
const { createHash } = require('node:crypto')

const sha256 = (text) => createHash('sha256').update(text, 'utf8').digest('hex')

/** The hash of a prompt specification. */
exports.promptHash = function promptHash(spec) {
  return sha256(
    JSON.stringify({
      phase: spec.phase,
      taskId: spec.taskId,
      requirements: [...spec.requirements].sort(),
      qualityGates: [...spec.qualityGates].sort(),
      artifacts: [...spec.artifacts].sort(),
      contextSummary: spec.contextSummary,
      personaHash: spec.personaHash,
      agentType: spec.agentType,
      modelVersion: spec.modelVersion,
    }),
  )
}

/** The hash of a ledger entry, from its line in the file. */
exports.entryHash = function entryHash(entry) {
  return sha256(
    JSON.stringify({
      entry_id: entry.entry_id,
      timestamp: entry.timestamp,
      previous_hash: entry.previous_hash,
      task_id: entry.task_id,
      from_phase: entry.from_phase,
      to_phase: entry.to_phase,
      evidence_artifacts: entry.evidence_artifacts,
      evidence_validated: entry.evidence_validated,
      agent_type: entry.agent_type,
      duration_ms: entry.duration_ms,
    }),
  )
}
