// One run of the agents, from their start to the end of the last one.

import { closeSync, openSync } from 'node:fs'
import { join } from 'node:path'
import { KillPlan } from './kill.mjs'
import { showProgress } from './progress.mjs'
import { PHASES } from './tasks.mjs'

/** @typedef {import('./fleet.mjs').Fleet} Fleet */

/**
 * @typedef {object} Run
 * @property {import('./options.mjs').Options} options
 * @property {string} workspace
 * @property {string} store where the package keeps everything: 'sqlite' or a URL
 * @property {import('./server.mjs').Server} [server]
 * @property {import('./tasks.mjs').Task[]} tasks
 * @property {Set<string>} drift the keys of the prompts to be changed
 */

/**
 * @typedef {object} Outcome
 * @property {number} milliseconds
 * @property {import('./kill.mjs').KillRecord} [kill]
 * @property {string[]} problems
 */

/** A run without any progress for so long hangs; a killed agent's lease and the longest work come on top. */
const STALL_LIMIT = 60_000

/** The share of the phases that is done before an agent is killed. */
const KILL_AFTER = 1 / 3

/** What the agents, and the package in them, write to stderr: on the screen it would tear the progress bar. */
export const logFile = (/** @type {string} */ workspace) => join(workspace, 'agents.log')

/**
 * @param {Fleet} fleet
 * @param {Run} run
 * @returns {Promise<Outcome>}
 */
export async function runAgents(fleet, { options, workspace, store, tasks, drift }) {
  const { agents, leaseDuration, work, namespaces } = options
  const total = tasks.length * PHASES.length
  /** @type {string[]} */
  const problems = []
  const log = openSync(logFile(workspace), 'a')
  const assignment = { workspace, store, tasks, driftKeys: drift, leaseDuration, work, announceHolds: options.kill }
  await fleet.prepare(agents, assignment, log, namespaces)
  closeSync(log)

  // The injected drift comes after the append: an agent killed between the two would leave one out.
  const limits = { workspace, store, notBefore: Math.floor(total * KILL_AFTER), spare: drift }
  const kill = options.kill ? new KillPlan(fleet, limits) : undefined
  await kill?.initialize()
  if (kill) fleet.onHold = (hold) => void kill.onHold(hold)

  const progress = showProgress(total, () => fleet.done)
  const limit = STALL_LIMIT + leaseDuration * 1_000 + work * 2
  const watchdog = watch(fleet, limit, (problem) => problems.push(problem))
  const start = performance.now()
  fleet.go()
  await fleet.ended()
  const milliseconds = performance.now() - start
  clearInterval(watchdog)
  progress.stop(fleet.done)
  kill?.close()
  if (kill && !kill.record) problems.push('kill: no agent could be caught while it held a lease; try a longer --work')
  if (kill?.record && !kill.record.takenOverAt) problems.push('kill: nobody took over the lease of the killed agent')
  return { milliseconds, kill: kill?.record, problems }
}

/**
 * @param {Fleet} fleet
 * @param {number} limit milliseconds
 * @param {(problem: string) => void} report
 */
function watch(fleet, limit, report) {
  let last = { done: 0, at: performance.now() }
  return setInterval(() => {
    if (fleet.done !== last.done) last = { done: fleet.done, at: performance.now() }
    else if (performance.now() - last.at > limit) {
      report(`no phase was finished for ${Math.round(limit / 1_000)} s; the agents were stopped`)
      fleet.stop()
    }
  }, 1_000)
}
