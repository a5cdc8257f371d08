// Kills one agent in the middle of its work and measures how long the others take to take over.

import { setTimeout as sleep } from 'node:timers/promises'
import { PhaseLeaseManager, PhaseLedger } from '../index.js'
import { keyOf, nextPhase } from './tasks.mjs'

/** @typedef {import('./fleet.mjs').Hold} Hold */

/**
 * @typedef {object} KillRecord
 * @property {string} agentId
 * @property {string} taskId
 * @property {string} phase
 * @property {number} killedAt ms since the epoch, as the others
 * @property {number} leaseEndsAt
 * @property {string} [takenOverBy]
 * @property {number} [takenOverAt]
 */

/** A stopped process may hold the ledger's lock; the question whether it has appended is then not answered. */
const ANSWER_TIMEOUT = 250

/** Signals are delivered a moment after the call that sends them, and a server may have a request by then. */
const STOP_DELAY = 20

export class KillPlan {
  /** @type {KillRecord | undefined} */
  record
  #busy = false

  /**
   * @param {import('./fleet.mjs').Fleet} fleet
   * @param {object} options
   * @param {string} options.workspace
   * @param {string} options.store
   * @param {number} options.notBefore the number of phases that must be done by then
   * @param {Set<string>} options.spare keys that must not be interrupted
   */
  constructor(fleet, { workspace, store, notBefore, spare }) {
    this.fleet = fleet
    this.notBefore = notBefore
    this.spare = spare
    this.leases = new PhaseLeaseManager(workspace, { store, agentId: 'observer' })
    this.ledger = new PhaseLedger(workspace, { store })
  }

  async initialize() {
    await this.ledger.initialize()
  }

  /** @param {Hold} hold an agent says that it holds a lease, or held it a moment ago */
  async onHold(hold) {
    if (this.record) this.#noteTakeOver(this.record, hold)
    else if (!this.#busy && this.fleet.done >= this.notBefore && !this.spare.has(keyOf(hold.taskId, hold.phase))) {
      this.#busy = true
      await this.#killIfHolding(hold)
      this.#busy = false
    }
  }

  /**
   * The message has taken its time, so the agent is stopped first, and killed only if it still holds that lease and has
   * not yet done the phase. Otherwise it goes on, none the wiser, and the next message gives another chance.
   * @param {Hold} hold
   */
  async #killIfHolding({ agentId, taskId, phase }) {
    const victim = this.fleet.running.find((agent) => agent.agentId === agentId)?.process
    if (!victim?.kill('SIGSTOP')) return
    await sleep(STOP_DELAY)
    const lease = await this.leases.getLeaseAsync(taskId, phase)
    const current = await Promise.race([this.ledger.getCurrentPhase(taskId), sleep(ANSWER_TIMEOUT, 'unknown')])
    const isWorking = lease?.agent_id === agentId && current !== 'unknown' && nextPhase(current) === phase
    if (!isWorking) {
      victim.kill('SIGCONT')
      return
    }
    this.record = { agentId, taskId, phase, killedAt: Date.now(), leaseEndsAt: Date.parse(lease.expires_at) }
    victim.kill('SIGKILL')
  }

  /**
   * @param {KillRecord} record
   * @param {Hold} hold
   */
  #noteTakeOver(record, { agentId, taskId, phase, at }) {
    if (record.takenOverAt !== undefined || taskId !== record.taskId || phase !== record.phase) return
    if (agentId === record.agentId) return
    record.takenOverBy = agentId
    record.takenOverAt = at
  }

  close() {
    this.leases.close()
  }
}
