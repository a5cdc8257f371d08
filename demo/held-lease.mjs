// One lease while an agent holds it: renewed in time, and asked before anything that only its holder may do.

import { setTimeout as sleep } from 'node:timers/promises'

/** The lease ended, or may have, before the work was done. */
export class LeaseLostError extends Error {}

/** Renew when this share of the duration has passed; two more attempts then fit in before the lease ends. */
const RENEW_AFTER = 1 / 3

/** Don't start an append in the last part of a lease: it must be over before somebody else can acquire. */
const SAFETY_MARGIN = 1 / 10

export class HeldLease {
  /** @type {number} */
  #grantedAt

  /**
   * @param {object} context
   * @param {import('../index.js').PhaseLeaseManager} context.leases
   * @param {import('./timings.mjs').Timings} context.timings
   * @param {string} context.taskId
   * @param {string} context.phase
   * @param {number} context.duration milliseconds
   * @param {number} context.requestedAt performance.now() from before the request: the lease can't have begun earlier
   */
  constructor({ leases, timings, taskId, phase, duration, requestedAt }) {
    this.leases = leases
    this.timings = timings
    this.taskId = taskId
    this.phase = phase
    this.duration = duration
    this.#grantedAt = requestedAt
    this.renewals = 0
  }

  /** Stands for the agent's work (a model at work, a build, a test run). @param {number} milliseconds */
  async work(milliseconds) {
    const end = performance.now() + milliseconds
    for (let left = milliseconds; left > 0; left = end - performance.now()) {
      await sleep(Math.min(left, this.duration * RENEW_AFTER))
      await this.#renewIfDue()
    }
  }

  async #renewIfDue() {
    const requestedAt = performance.now()
    if (requestedAt - this.#grantedAt < this.duration * RENEW_AFTER) return
    const answer = await this.timings.measure('renew', () => this.leases.renewLease(this.taskId, this.phase))
    // A lease that was not renewed may still be ours for a while; assertHeld() decides.
    if (!answer.renewed) return
    this.#grantedAt = requestedAt
    this.renewals += 1
  }

  /**
   * To be called right before an append. Two things must agree: this process's monotonic clock, which also counts time
   * in which the process stood still, and the store, which knows whether somebody else took the lease.
   * What remains is a process that stops between this check and its write; only a fencing token, checked by the ledger
   * together with the write, closes that.
   */
  async assertHeld() {
    await this.#renewIfDue()
    const age = performance.now() - this.#grantedAt
    const held = await this.timings.measure('holdsLease', () => this.leases.holdsLease(this.taskId, this.phase))
    if (!held || age > this.duration * (1 - SAFETY_MARGIN)) throw new LeaseLostError()
  }

  /** @returns {Promise<boolean>} false if it was no longer ours */
  release() {
    return this.timings.measure('release', () => this.leases.releaseLease(this.taskId, this.phase))
  }
}
