// Starts the agents, lets them begin together, and collects what they report. It hands out no work.

import { fork } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** @typedef {import('./agent.mjs').Assignment} Assignment */
/** @typedef {import('./agent.mjs').AgentCounts} AgentCounts */

/**
 * @typedef {object} AgentRecord
 * @property {string} agentId
 * @property {import('node:child_process').ChildProcess} process
 * @property {number} done as last reported
 * @property {AgentCounts} [counts] at its end; a killed agent has none
 * @property {Map<string, number[]>} [timings]
 * @property {{code: number | null, signal: NodeJS.Signals | null}} [exit]
 * @property {Promise<unknown>} ready it waits for the start, or has exited
 * @property {Promise<unknown>} ended its process has exited and its last message has arrived
 */

/** @typedef {{agentId: string, taskId: string, phase: string, at: number}} Hold */

const AGENT = fileURLToPath(new URL('./agent.mjs', import.meta.url))

export class Fleet {
  /** @type {AgentRecord[]} */
  agents = []
  /** @type {(hold: Hold) => void} */
  onHold = () => {}

  /** The phases done, as far as the agents have reported. */
  get done() {
    return this.agents.reduce((sum, agent) => sum + (agent.counts?.done ?? agent.done), 0)
  }

  get running() {
    return this.agents.filter((agent) => !agent.exit)
  }

  /**
   * @param {number} count
   * @param {Omit<Assignment, 'agentId'>} assignment
   * @param {number} logFile descriptor that takes what the agents write to stderr
   * @param {string[]} namespaces those of the network that stand for machines, if any do
   */
  async prepare(count, assignment, logFile, namespaces) {
    for (let number = 1; number <= count; number += 1) {
      const namespace = namespaces[number % namespaces.length]
      const workspace = namespace ? join(assignment.workspace, namespace) : assignment.workspace
      mkdirSync(workspace, { recursive: true })
      this.#start({ ...assignment, workspace, agentId: `agent-${number}` }, logFile, namespace)
    }
    await Promise.all(this.agents.map((agent) => agent.ready))
  }

  /** All at once: a head start would let the first agent work alone for a while. */
  go() {
    for (const agent of this.running) agent.process.send({ type: 'go' })
  }

  /** Resolves when no agent is left. */
  async ended() {
    await Promise.all(this.agents.map((agent) => agent.ended))
  }

  /** Ends what still runs. */
  stop() {
    for (const agent of this.running) agent.process.kill('SIGKILL')
  }

  /**
   * @param {Assignment} assignment
   * @param {number} logFile
   * @param {string | undefined} namespace
   */
  #start(assignment, logFile, namespace) {
    // `ip` becomes what it is told to run.
    const within = namespace && { execPath: 'ip', execArgv: ['netns', 'exec', namespace, process.execPath] }
    // Structured clone keeps Maps, Sets and half surrogate pairs as they are.
    const child = fork(AGENT, { serialization: 'advanced', stdio: ['ignore', logFile, logFile, 'ipc'], ...within })
    /** @type {AgentRecord} */
    const agent = {
      agentId: assignment.agentId,
      process: child,
      done: 0,
      ready: Promise.resolve(),
      ended: Promise.resolve(),
    }
    this.agents.push(agent)
    const exited = new Promise((resolve) => {
      const end = (/** @type {number | null} */ code, /** @type {NodeJS.Signals | null} */ signal) => {
        agent.exit = { code, signal }
        resolve(undefined)
      }
      child.once('exit', end)
      // A message to an agent that has just died fails too, but then its exit is what counts.
      child.on('error', () => {
        if (child.pid === undefined) end(null, null)
      })
    })
    const disconnected = new Promise((resolve) => child.once('disconnect', () => resolve(undefined)))
    let onReady = () => {}
    agent.ready = Promise.race([exited, new Promise((resolve) => (onReady = () => resolve(undefined)))])
    agent.ended = exited.then(() => child.connected && disconnected)
    child.on('message', (/** @type {any} */ message) => {
      if (message.type === 'ready') onReady()
      else if (message.type === 'progress') agent.done = message.done
      else if (message.type === 'holding') this.onHold(message)
      else if (message.type === 'result') Object.assign(agent, { counts: message.counts, timings: message.timings })
    })
    child.send({ type: 'prepare', assignment })
  }
}
