'use strict'

const { PhaseLedger, PromptAttestationManager } = require('../../index.js')
const { answer, severityShown, table } = require('../output.js')
const { transition } = require('../tables.js')
const { shown } = require('../text.js')
const { openWorkspace } = require('../workspace.js')

exports.command = 'history <task>'
exports.describe = 'What happened to a task: its prompts and its phases, oldest first'

/** @param {import('yargs').Argv} parser */
exports.builder = (parser) =>
  parser
    .positional('task', { type: 'string', describe: 'The task' })
    .example('$0 history TASK-1', 'all of it')
    .epilogue('A task whose name begins with a dash goes behind --: driftlock history -- -1')

/** @param {{workspace: string, json: boolean, task: string}} options */
exports.handler = async (options) => {
  const { task } = options
  const { root } = await openWorkspace(options)
  const [attestations, transitions] = await Promise.all([
    new PromptAttestationManager(root).getAttestationHistory(task),
    new PhaseLedger(root).getTaskHistory(task),
  ])
  const events = [
    ...attestations.map((record) => ({
      kind: /** @type {const} */ ('attestation'),
      at: String(record.timestamp),
      record,
    })),
    ...transitions.map((record) => ({
      kind: /** @type {const} */ ('transition'),
      at: String(record.timestamp),
      record,
    })),
  ].sort((a, b) => (a.at < b.at ? -1 : a.at > b.at ? 1 : 0))
  answer(options, { workspace: root, task, events }, (found) =>
    found.events.length > 0
      ? table(['AT', 'EVENT', 'WHAT', 'AGENT', 'DETAILS'], found.events.map(row))
      : `nothing is recorded of ${shown(task)}`,
  )
}

/**
 * @typedef {{kind: 'attestation', at: string, record: import('../../index.js').PromptAttestation}} Attested
 * @typedef {{kind: 'transition', at: string, record: import('../../index.js').LedgerEntry}} Moved
 * @param {Attested | Moved} event
 */
function row(event) {
  const { kind, at, record } = event
  const start = [shown(at, 30), kind]
  const agent = shown(record.agent_type ?? '-', 20)
  if (kind === 'attestation') return [...start, shown(event.record.phase, 20), agent, attested(event.record)]
  const moved = event.record
  const evidence = Array.isArray(moved.evidence_artifacts) ? moved.evidence_artifacts.length : 0
  const details = `evidence: ${evidence}, ${moved.evidence_validated ? 'validated' : 'not validated'}`
  return [...start, transition({ fromPhase: moved.from_phase, toPhase: moved.to_phase }), agent, details]
}

/** @param {import('../../index.js').PromptAttestation} record */
function attested(record) {
  if (!record.drift_detected && !record.persona_drift)
    return record.baseline_hash ? 'as the baseline' : 'first: the baseline'
  const what = [record.drift_detected && 'prompt', record.persona_drift && 'persona'].filter(Boolean).join(' and ')
  return `${what} drifted: ${severityShown(shown(record.severity ?? 'unknown', 20))}`
}
