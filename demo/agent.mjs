// One agent: a process that takes whatever (task, phase) it can get a lease of, until every task is through.
//
// Nobody hands out work. That each (task, phase) is done exactly once follows from three rules that every agent keeps:
//   1. it works on a (task, phase) only while it holds the lease of it;
//   2. having acquired, it asks the ledger whether that phase is still the next one of the task, and lets go if not;
//   3. the append to the ledger, made while the lease is held, is what marks the phase as done.
// Two agents can't both append the same phase: the second acquires after the first released, or its lease ended, and
// sees the entry. Nor can phases overtake one another: a phase is the next one only when the entry of the phase before
// it is there.

import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises'
import { PhaseLeaseManager, PhaseLedger, PromptAttestationManager } from '../index.js'
import { HeldLease, LeaseLostError } from './held-lease.mjs'
import { changedPromptFor, keyOf, nextPhase, promptFor } from './tasks.mjs'
import { Timings } from './timings.mjs'

/** @typedef {import('./tasks.mjs').Task} Task */
/** @typedef {import('./tasks.mjs').Phase} Phase */

/**
 * What an agent is told at its start.
 * @typedef {object} Assignment
 * @property {string} agentId
 * @property {string} workspace
 * @property {string} store
 * @property {Task[]} tasks
 * @property {Set<string>} driftKeys
 * @property {number} leaseDuration seconds
 * @property {number} work mean duration of the work on a phase, milliseconds
 * @property {boolean} announceHolds send a message whenever a lease was acquired
 */

/** @typedef {Agent['counts']} AgentCounts */

const PROGRESS_INTERVAL = 100
const BACKOFF = { first: 2, longest: 50 }

/** A store that fails this often in a row won't recover by waiting. */
const FAILURES_TOLERATED = 20

class Agent {
  timings = new Timings()
  counts = {
    done: 0,
    refused: 0,
    late: 0,
    renewals: 0,
    drift: 0,
    failures: 0,
    lastFailure: '',
    lost: /** @type {string[]} */ ([]),
  }
  #failuresInRow = 0
  #reportedAt = 0

  /** @param {Assignment} assignment */
  constructor(assignment) {
    const { agentId, workspace, store, leaseDuration } = assignment
    this.assignment = assignment
    // As many renewals as the work may need: the limit is there for agents that hang, and here the kill tests those.
    this.leases = new PhaseLeaseManager(workspace, { store, agentId, leaseDuration, maxRenewals: 10_000 })
    this.attestations = new PromptAttestationManager(workspace, { store })
    this.ledger = new PhaseLedger(workspace, { store })
  }

  async initialize() {
    await this.attestations.initialize()
    await this.ledger.initialize()
  }

  /**
   * Always tries from the front of the list, so that all agents want the same few tasks (contention is the point here),
   * the work ends task by task, and a refusal costs one step: the next task is free, or the one after it.
   */
  async run() {
    let open = this.assignment.tasks
    let backoff = BACKOFF.first
    while (open.length > 0) {
      const finished = new Set()
      let progressed = false
      for (const task of open) {
        const phase = nextPhase(await this.#currentPhase(task))
        if (!phase) finished.add(task)
        else if (await this.#attempt(task, phase)) {
          progressed = true
          break
        }
      }
      if (finished.size > 0) open = open.filter((task) => !finished.has(task))
      this.#reportProgress()
      if (progressed) {
        backoff = BACKOFF.first
        // Calls that answer at once never leave the microtask queue; messages need a turn of the event loop.
        await nextTurn()
      } else if (open.length > 0) {
        // All that is left is in other agents' hands. Jitter keeps those who wait from returning together.
        await sleep(backoff * (0.5 + Math.random()))
        backoff = Math.min(backoff * 2, BACKOFF.longest)
      }
    }
  }

  /** @param {Task} task */
  #currentPhase(task) {
    return this.timings.measure('getCurrentPhase', () => this.ledger.getCurrentPhase(task.taskId))
  }

  /**
   * @param {Task} task
   * @param {Phase} phase
   * @returns {Promise<boolean>} whether this agent did the phase
   */
  async #attempt(task, phase) {
    const lease = await this.#acquire(task, phase)
    if (!lease) return false
    try {
      const current = await this.#currentPhase(task)
      if (nextPhase(current) !== phase) {
        this.counts.late += 1
        return false
      }
      await this.#perform(lease, task, current, phase)
      return true
    } catch (error) {
      if (!(error instanceof LeaseLostError)) throw error
      this.counts.lost.push(keyOf(task.taskId, phase))
      return false
    } finally {
      this.counts.renewals += lease.renewals
      await lease.release()
    }
  }

  /**
   * @param {Task} task
   * @param {Phase} phase
   * @returns {Promise<HeldLease | undefined>}
   */
  async #acquire({ taskId }, phase) {
    const { leases, timings } = this
    const { agentId, announceHolds, leaseDuration } = this.assignment
    const requestedAt = performance.now()
    const answer = await leases.acquireLease(taskId, phase)
    timings.add(answer.acquired ? 'acquire' : 'acquire (refused)', performance.now() - requestedAt)
    if (!answer.acquired) {
      if (answer.holder !== undefined || !answer.reason?.startsWith('Internal error')) this.counts.refused += 1
      else await this.#failed(answer.reason ?? '')
      return undefined
    }
    this.#failuresInRow = 0
    if (announceHolds) send({ type: 'holding', agentId, taskId, phase, at: Date.now() })
    return new HeldLease({ leases, timings, taskId, phase, duration: leaseDuration * 1_000, requestedAt })
  }

  /**
   * @param {HeldLease} lease
   * @param {Task} task
   * @param {string | null} current
   * @param {Phase} phase
   */
  async #perform(lease, task, current, phase) {
    const { agentId, driftKeys, work } = this.assignment
    const started = performance.now()
    const { currentHash } = await this.#attest(promptFor(task, phase))
    await lease.work(work * (0.5 + Math.random()))
    await lease.assertHeld()
    const durationMs = Math.round(performance.now() - started)
    await this.timings.measure('append', () =>
      this.ledger.appendTransition(task.taskId, current, phase, [`prompt:${currentHash}`], true, {
        agentType: agentId,
        durationMs,
      }),
    )
    this.counts.done += 1
    // After the append, so that only the agent that did the phase changes its prompt: once, like the phase itself.
    if (driftKeys.has(keyOf(task.taskId, phase))) await this.#attest(changedPromptFor(task, phase))
  }

  /** @param {ReturnType<typeof promptFor>} prompt */
  async #attest(prompt) {
    const answer = await this.timings.measure('attest', () => this.attestations.attest(prompt))
    if (answer.hasDrift) this.counts.drift += 1
    // Attesting fails open: the work goes on, and the check at the end finds the record missing.
    if (answer.currentHash === '') await this.#failed(`attest: ${JSON.stringify(answer)}`)
    return answer
  }

  /** @param {string} reason */
  async #failed(reason) {
    this.counts.failures += 1
    this.counts.lastFailure = reason
    this.#failuresInRow += 1
    if (this.#failuresInRow > FAILURES_TOLERATED) throw new Error(reason)
    await sleep(BACKOFF.longest)
  }

  #reportProgress() {
    const now = performance.now()
    if (now - this.#reportedAt < PROGRESS_INTERVAL) return
    this.#reportedAt = now
    send({ type: 'progress', done: this.counts.done })
  }

  close() {
    this.leases.close()
  }
}

/** @param {object} message */
function send(message) {
  // The parent may be gone; the 'disconnect' handler then ends this process.
  if (process.connected) process.send?.(message)
}

/** @type {Agent} */
let agent

/** Without its parent an agent would go on unseen. */
const abandon = () => process.exit(1)
process.once('disconnect', abandon)

process.on('message', async (/** @type {{type: string, assignment: Assignment}} */ message) => {
  if (message.type === 'prepare') {
    agent = new Agent(message.assignment)
    await agent.initialize()
    send({ type: 'ready' })
  } else if (message.type === 'go') {
    await agent.run()
    agent.close()
    process.off('disconnect', abandon)
    process.send?.({ type: 'result', counts: agent.counts, timings: agent.timings.samples }, () => process.disconnect())
  }
})
