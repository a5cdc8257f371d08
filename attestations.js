'use strict'

// What PromptAttestationManager has beyond the native calls: prompts that come by the thousand are read in later turns of
// the event loop.

/** How many calls are made in one turn: to read so many prompts takes a millisecond or two. */
const IN_ONE_TURN = 200

/** Calls that wait for their turn of the event loop, in their order. */
class LaterTurns {
  #waiting = []

  get isEmpty() {
    return this.#waiting.length === 0
  }

  /** @template T @param {() => Promise<T>} call @returns {Promise<T>} */
  add(call) {
    const turn = new Promise((resolve) => {
      this.#waiting.push(resolve)
      if (this.#waiting.length === 1) setImmediate(() => this.#turn())
    })
    return turn.then(call)
  }

  #turn() {
    for (const begin of this.#waiting.splice(0, IN_ONE_TURN)) begin()
    if (this.#waiting.length > 0) setImmediate(() => this.#turn())
  }
}

/** What `attest` reads of a prompt, as it is now. */
function copyOf({
  phase,
  taskId,
  requirements,
  qualityGates,
  artifacts,
  contextSummary,
  personaHash,
  personaSummary,
  agentType,
  modelVersion,
}) {
  return {
    phase,
    taskId,
    requirements: copyOfList(requirements),
    qualityGates: copyOfList(qualityGates),
    artifacts: copyOfList(artifacts),
    contextSummary,
    personaHash,
    personaSummary,
    agentType,
    modelVersion,
  }
}

const copyOfList = (list) => (Array.isArray(list) ? list.slice() : list)

/** @param {typeof import('./binding.js')} binding */
function extendAttestations({ PromptAttestationManager }) {
  const { attest, initialize, getAttestationHistory, getDriftStats, resetBaseline } = PromptAttestationManager.prototype
  const later = new LaterTurns()

  PromptAttestationManager.prototype.attest = function (spec, options) {
    if (later.isEmpty) {
      const answer = attest.call(this, spec, options, false)
      if (answer !== null) return answer
    }
    let copy
    try {
      copy = copyOf(spec)
    } catch {
      // It has no fields, or one that can't be read: the answer says so.
      return attest.call(this, spec, options, true)
    }
    return later.add(() => attest.call(this, copy, options, true))
  }

  // None of them overtakes an attestation.
  for (const method of [initialize, getAttestationHistory, getDriftStats, resetBaseline]) {
    PromptAttestationManager.prototype[method.name] = function (...args) {
      return later.isEmpty ? method.apply(this, args) : later.add(() => method.apply(this, args))
    }
  }
}

module.exports = { extendAttestations }
