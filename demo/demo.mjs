// npm run demo: several agent processes work one task list; afterwards the files they left are checked.

import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { evaluate } from './evaluate.mjs'
import { Fleet } from './fleet.mjs'
import { HELP, readOptions, UsageError } from './options.mjs'
import { printReport } from './report.mjs'
import { runAgents } from './run.mjs'
import { Server } from './server.mjs'
import { driftKeys, PHASES, readTasks } from './tasks.mjs'

/** @typedef {import('./options.mjs').Options} Options */

/** @param {Options} options */
async function main(options) {
  const { tasks, drift } = readInput(options)
  const server = options.store === undefined ? undefined : new Server(options.store)
  // Others could see a password in the list of processes.
  if (server) process.title = 'driftlock demo'
  server?.check()
  const workspace = openWorkspace(options.workspace)
  const fleet = new Fleet()
  for (const [signal, code] of /** @type {const} */ ([
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ])) {
    process.once(signal, () => {
      fleet.stop()
      if (!options.workspace) rmSync(workspace, { recursive: true, force: true })
      if (!options.keep) server?.forget()
      process.exit(code)
    })
  }

  const total = tasks.length * PHASES.length
  console.log(`${options.agents} agents, ${tasks.length} tasks × ${PHASES.length} phases = ${total} transitions`)
  const run = { options, workspace, store: server?.url ?? 'sqlite', server, tasks, drift }
  const report = await evaluate(fleet, run, await runAgents(fleet, run))
  printReport(report)
  if (options.json) writeFileSync(options.json, `${JSON.stringify(report, null, 2)}\n`)

  const failed = report.violations.length > 0
  // The files of a failed run are the evidence.
  if (options.workspace || options.keep || failed) console.log(`Workspace: ${workspace}`)
  else rmSync(workspace, { recursive: true, force: true })
  if (!options.keep && !failed) server?.forget()
  return failed ? 1 : 0
}

/** @param {Options} options */
function readInput(options) {
  let tasks
  try {
    tasks = readTasks(options.tasks)
  } catch (error) {
    throw new UsageError(/** @type {Error} */ (error).message)
  }
  const pairs = tasks.length * PHASES.length
  if (options.drift > pairs) throw new UsageError(`--drift can't be more than the ${pairs} prompts of this list`)
  return { tasks, drift: driftKeys(tasks, options.drift) }
}

/** @param {string | undefined} given */
function openWorkspace(given) {
  if (!given) return mkdtempSync(join(tmpdir(), 'driftlock-demo-'))
  const workspace = resolve(given)
  // Results of another run, or a repository in real use, can't be told from those of this one.
  for (const used of ['state/process', 'state/orchestrator.db']) {
    if (existsSync(join(workspace, used)))
      throw new UsageError(`${join(workspace, used)} exists: not a fresh workspace`)
  }
  mkdirSync(workspace, { recursive: true })
  return workspace
}

try {
  const options = readOptions(process.argv.slice(2))
  if (options.help) process.stdout.write(HELP)
  else process.exitCode = await main(options)
} catch (error) {
  const usage = error instanceof UsageError
  console.error(usage ? `${error.message}\n\n${HELP}` : error)
  process.exitCode = usage ? 2 : 1
}
