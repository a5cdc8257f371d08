// From what the agents reported and what they left on disk to the report.

import { readFileSync } from 'node:fs'
import { PhaseLeaseManager, PhaseLedger, PromptAttestationManager } from '../index.js'
import { checkResults } from './check.mjs'
import { readResults } from './results.mjs'
import { logFile } from './run.mjs'
import { keyOf, PHASES } from './tasks.mjs'
import { Timings } from './timings.mjs'

/** @typedef {import('./fleet.mjs').Fleet} Fleet */
/** @typedef {import('./run.mjs').Run} Run */
/** @typedef {import('./run.mjs').Outcome} Outcome */
/** @typedef {import('./results.mjs').Results} Results */
/** @typedef {import('./report.mjs').Report} Report */
/** @typedef {import('./report.mjs').AgentSummary} AgentSummary */

/**
 * Only when all agents have ended.
 * @param {Fleet} fleet
 * @param {Run} run
 * @param {Outcome} outcome
 * @returns {Promise<Report>}
 */
export async function evaluate(
  fleet,
  { options, workspace, store, server, tasks, drift },
  { milliseconds, kill, problems },
) {
  const opinion = await askPackage(workspace, store)
  const { results, violations } = server
    ? { results: server.readResults(), violations: [] }
    : await readResults(workspace)
  const agents = summarize(fleet, results, kill)
  const timings = new Timings()
  for (const agent of fleet.agents) if (agent.timings) timings.merge(agent.timings)
  const transitions = results.ledger.length
  const log = { file: logFile(workspace), lines: readFileSync(logFile(workspace), 'utf8').split('\n').length - 1 }
  return {
    options: { ...options, store: opinion.store },
    run: {
      tasks: tasks.length,
      phases: PHASES.length,
      transitions,
      milliseconds,
      perSecond: Math.round((transitions / milliseconds) * 1_000),
    },
    agents,
    operations: timings.summary(),
    kill: kill && withTakeOver(kill),
    leaseStats: opinion.leaseStats,
    driftStats: opinion.driftStats,
    log,
    violations: [
      ...problems,
      ...agents.flatMap((agent) => agentViolations(agent, fleet)),
      ...violations,
      ...checkResults(results, { tasks, driftKeys: drift, interrupted: interruptions(agents, kill) }),
      ...disagreements(opinion, results, agents),
    ],
  }
}

/**
 * @param {Fleet} fleet
 * @param {Results} results
 * @param {Outcome['kill']} kill
 * @returns {AgentSummary[]}
 */
function summarize(fleet, results, kill) {
  return fleet.agents.map(({ agentId, exit, counts }) => ({
    agentId,
    done: results.ledger.filter((entry) => entry.agent_type === agentId).length,
    end: agentId === kill?.agentId ? 'killed' : counts && exit?.code === 0 ? 'finished' : 'failed',
    counts,
  }))
}

/**
 * How often which (task, phase) was begun in vain: by the killed agent, and by those that lost a lease.
 * @param {AgentSummary[]} agents
 * @param {Outcome['kill']} kill
 */
function interruptions(agents, kill) {
  const keys = agents.flatMap((agent) => agent.counts?.lost ?? [])
  if (kill) keys.push(keyOf(kill.taskId, kill.phase))
  /** @type {Map<string, number>} */
  const counts = new Map()
  for (const key of keys) counts.set(key, (counts.get(key) ?? 0) + 1)
  return counts
}

/** @param {NonNullable<Outcome['kill']>} kill */
function withTakeOver(kill) {
  if (kill.takenOverAt === undefined) return kill
  const { takenOverAt, killedAt, leaseEndsAt } = kill
  return { ...kill, takeOverMs: takenOverAt - killedAt, afterLeaseEndMs: takenOverAt - leaseEndsAt }
}

/**
 * @param {AgentSummary} agent
 * @param {Fleet} fleet
 */
function agentViolations({ agentId, end, counts, done }, fleet) {
  const violations = []
  const { exit } = fleet.agents.find((agent) => agent.agentId === agentId) ?? {}
  if (end === 'failed') violations.push(`${agentId} ended with code ${exit?.code}, signal ${exit?.signal}`)
  if (counts?.failures) violations.push(`${agentId} met ${counts.failures} failures, the last: ${counts.lastFailure}`)
  if (counts && counts.done !== done) {
    violations.push(`${agentId} did ${counts.done} phases, but the ledger has ${done} of it`)
  }
  return violations
}

/**
 * What the package itself says about the run.
 * @param {string} workspace
 * @param {string} store
 */
async function askPackage(workspace, store) {
  const leases = new PhaseLeaseManager(workspace, { store, agentId: 'observer' })
  const attestations = new PromptAttestationManager(workspace, { store })
  const ledger = new PhaseLedger(workspace, { store })
  try {
    await Promise.all([attestations.initialize(), ledger.initialize()])
    return {
      store: leases.store,
      verification: await ledger.verify(),
      leaseStats: await leases.getStats(),
      driftStats: await attestations.getDriftStats(),
    }
  } finally {
    leases.close()
  }
}

/**
 * Where the package and the independent reading of the same files, or the agents' own counts, differ.
 * @param {Awaited<ReturnType<typeof askPackage>>} opinion
 * @param {Results} results
 * @param {AgentSummary[]} agents
 */
function disagreements({ verification, leaseStats, driftStats }, results, agents) {
  const violations = []
  const compare = (/** @type {string} */ what, /** @type {unknown} */ said, /** @type {unknown} */ found) => {
    if (said !== found) violations.push(`the package says ${what} is ${said}, but it is ${found}`)
  }
  if (!verification.valid) violations.push(`the package finds the ledger damaged: ${JSON.stringify(verification)}`)
  compare('the number of ledger entries', verification.entries_checked, results.ledger.length)
  compare('the number of attestations', driftStats.totalAttestations, results.attestations.length)
  const drifted = results.attestations.filter((record) => record.drift_detected).length
  compare('the number of drifts', driftStats.driftDetections, drifted)
  compare('the number of leases', leaseStats.totalLeases, results.leases.length)
  // A killed agent takes what it has not yet added to the store with it.
  if (agents.every((agent) => agent.end === 'finished')) {
    const refused = agents.reduce((sum, agent) => sum + (agent.counts?.refused ?? 0), 0)
    compare('the number of refused acquisitions', leaseStats.contentionEvents, refused)
  }
  return violations
}
