// Attestations and what is asked of their log.

import { PER_TASK, phaseOf, promptOf, taskOf } from '../workspaces.mjs'
import { appendRaw } from './floors.mjs'

/** @typedef {import('./case.mjs').Case} Case */
/** @typedef {import('../candidates.mjs').Api} Api */

/** With nothing prepared, repeated attestations are of these many prompts, attested before. */
const FEW = 10

/**
 * @param {Api} api
 * @param {string} folder
 */
async function open(api, folder) {
  const manager = new api.PromptAttestationManager(folder)
  await manager.initialize()
  return manager
}

/** @param {import('../../index.js').DriftAnalysis} answer */
const isRecorded = ({ currentHash, hasDrift, error }) => currentHash.length === 64 && !hasDrift && error === undefined

/** @type {Case} */
export const firstAttestation = {
  name: 'first attestation',
  async setUp(api, folder, size) {
    const manager = await open(api, folder)
    return {
      run: (i) => manager.attest(promptOf(size + FEW + i)),
      succeeded: (answer) => isRecorded(answer) && answer.baselineHash === undefined,
    }
  },
  floors: { appendFileSync: appendRaw },
}

/** @type {Case} */
export const repeatedAttestation = {
  name: 'repeated attestation',
  async setUp(api, folder, size) {
    const manager = await open(api, folder)
    const known = size || FEW
    for (let i = size; i < known; i++) await manager.attest(promptOf(i))
    return {
      // A step that shares no factor with the size, so that no two are neighbours.
      run: (i) => manager.attest(promptOf((i * 7919) % known)),
      succeeded: (answer) => isRecorded(answer) && answer.baselineHash === answer.currentHash,
    }
  },
  floors: { appendFileSync: appendRaw },
}

/** @type {Case} */
export const history = {
  name: 'history of one task',
  async setUp(api, folder, size) {
    const manager = await open(api, folder)
    return {
      run: (i) => manager.getAttestationHistory(taskOf((i * 7919) % (size || 1))),
      succeeded: (records, i) =>
        records.length >= Math.min(size, PER_TASK) &&
        (size === 0 || records[0].task_id === taskOf((i * 7919) % size)) &&
        (size === 0 || records[0].phase === phaseOf(0)),
    }
  },
}

/** @type {Case} */
export const statistics = {
  name: 'statistics',
  async setUp(api, folder, size) {
    const manager = await open(api, folder)
    return {
      run: () => manager.getDriftStats(),
      succeeded: (answer) => answer.totalAttestations >= size && answer.driftDetections === 0,
    }
  },
}
