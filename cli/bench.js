'use strict'

// The short measurement of `driftlock bench`: what one agent alone waits for each call.

const { mkdtempSync, rmSync } = require('node:fs')
const { tmpdir } = require('node:os')
const { join } = require('node:path')
const { PhaseLeaseManager, PhaseLedger, PromptAttestationManager, withFileLock } = require('../index.js')

/** Calls before those that are measured. */
const WARM_UP = 100

/**
 * Measures each operation in a temporary workspace.
 *
 * @param {number} iterations
 * @param {string} [folder] where to make it
 */
async function measure(iterations, folder = tmpdir()) {
  const root = mkdtempSync(join(folder, 'driftlock-bench-'))
  const leases = new PhaseLeaseManager(root)
  try {
    const results = []
    for (const [operation, call] of Object.entries(await operationsIn(root, leases))) {
      results.push({ operation, ...(await times(call, iterations)) })
    }
    return results
  } finally {
    leases.close()
    rmSync(root, { recursive: true, force: true })
  }
}

/** @param {string} root @param {PhaseLeaseManager} leases @returns {Promise<Record<string, (i: number) => Promise<unknown>>>} */
async function operationsIn(root, leases) {
  const prompts = new PromptAttestationManager(root)
  const ledger = new PhaseLedger(root)
  await prompts.initialize()
  await ledger.initialize()
  const lists = { requirements: ['one', 'two'], qualityGates: ['tests'], artifacts: ['src/a.ts'] }
  const spec = (/** @type {string} */ taskId) => ({
    phase: 'IMPLEMENT',
    taskId,
    timestamp: '',
    ...lists,
    contextSummary: 'a context',
  })
  return {
    'acquire + release a lease': async (i) => {
      const { acquired, reason } = await leases.acquireLease(`T-${i}`, 'IMPLEMENT')
      if (!acquired) throw new Error(`not acquired: ${reason}`)
      await leases.releaseLease(`T-${i}`, 'IMPLEMENT')
    },
    'first attestation': (i) => attested(prompts.attest(spec(`T-${i}`))),
    'repeated attestation': () => attested(prompts.attest(spec('T-0'))),
    'append to the ledger': (i) => ledger.appendTransition(`T-${i}`, 'PLAN', 'IMPLEMENT', ['src/a.ts'], true),
    withFileLock: () => withFileLock(join(root, 'lock'), () => {}),
  }
}

/** @param {Promise<import('../index.js').DriftAnalysis>} attestation */
async function attested(attestation) {
  const { error } = await attestation
  if (error) throw new Error(error)
}

/** @param {(i: number) => Promise<unknown>} call @param {number} iterations */
async function times(call, iterations) {
  for (let i = 0; i < WARM_UP; i++) await call(i)
  const samples = new Float64Array(iterations)
  for (let i = 0; i < iterations; i++) {
    const began = performance.now()
    await call(WARM_UP + i)
    samples[i] = 1000 * (performance.now() - began)
  }
  samples.sort()
  const at = (/** @type {number} */ share) => samples[Math.min(iterations - 1, Math.floor(share * iterations))] ?? 0
  return { p50: at(0.5), p95: at(0.95), p99: at(0.99), max: at(1) }
}

module.exports = { measure }
