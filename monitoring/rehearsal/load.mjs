// What agents do, made with the package: as much of it, good and bad, as is asked for.

import { setTimeout as sleep } from 'node:timers/promises'

/** A workspace with agents in it. */
export class Load {
  #agent
  #rival
  #prompts
  #ledger
  #recorder
  #count = 0

  /**
   * @param {typeof import('../../index.js')} driftlock
   * @param {string} workspace
   */
  constructor(driftlock, workspace) {
    this.#agent = new driftlock.PhaseLeaseManager(workspace, { agentId: 'agent' })
    this.#rival = new driftlock.PhaseLeaseManager(workspace, { agentId: 'rival' })
    this.#prompts = new driftlock.PromptAttestationManager(workspace)
    this.#ledger = new driftlock.PhaseLedger(workspace)
    this.#recorder = new driftlock.TelemetryRecorder(workspace)
  }

  async initialize() {
    await this.#prompts.initialize()
    await this.#ledger.initialize()
  }

  /** @param {number} passed @param {number} failed */
  async gates(passed, failed) {
    await this.#record('evidence_gate_passed', passed)
    await this.#record('evidence_gate_failed', failed)
  }

  /** @param {number} passed @param {number} failed */
  async validations(passed, failed) {
    await this.#record('phase_validations_passed', passed)
    await this.#record('phase_validations_failed', failed)
  }

  async skip() {
    await this.#record('phase_skips_attempted', 1)
  }

  /**
   * @param {string} name
   * @param {number} times
   */
  async #record(name, times) {
    const metadata = { taskId: this.#newTask(), phase: 'REVIEW' }
    const calls = Array.from({ length: times }, () => this.#recorder.recordCounter(name, 1, metadata))
    await Promise.all(calls)
  }

  /**
   * Leases that are acquired, renewed and released, and attempts at the last of them that are refused meanwhile.
   *
   * @param {number} acquired
   * @param {number} contended
   * @param {number} [holdMs] for how long each is held
   */
  async leases(acquired, contended, holdMs = 0) {
    for (let i = 1; i <= acquired; i++) {
      const task = this.#newTask()
      await this.#agent.acquireLease(task, 'IMPLEMENT')
      if (i === acquired) for (let j = 0; j < contended; j++) await this.#rival.acquireLease(task, 'IMPLEMENT')
      await sleep(holdMs)
      await this.#agent.renewLease(task, 'IMPLEMENT')
      await this.#agent.releaseLease(task, 'IMPLEMENT')
    }
  }

  /**
   * A task whose prompt is attested, attested again, and has changed the last time if it is to drift.
   *
   * @param {import('../../index.js').WorkPhase} phase
   * @param {boolean} [drift]
   * @param {string} [taskId]
   */
  async prompt(phase, drift = false, taskId = this.#newTask()) {
    const spec = { phase, taskId, timestamp: '', qualityGates: ['tests'], artifacts: [], contextSummary: 'dates' }
    for (const requirement of ['parse', 'parse', drift ? 'guess' : 'parse']) {
      await this.#prompts.attest({ ...spec, requirements: [requirement] })
    }
  }

  /**
   * @param {import('../../index.js').WorkPhase} phase
   * @param {string} [taskId]
   */
  async transition(phase, taskId = this.#newTask()) {
    await this.#ledger.appendTransition(taskId, null, phase, [], true)
  }

  #newTask() {
    this.#count++
    return `LOAD-${this.#count}`
  }

  close() {
    this.#agent.close()
    this.#rival.close()
  }
}
