'use strict'

const { setTimeout: sleep } = require('node:timers/promises')
const { withExitCodes } = require('../command.js')
const { EXIT, UsageError } = require('../exit.js')
const { answer, print, table } = require('../output.js')
const { leaseShown } = require('../snapshot.js')
const { leaseTable } = require('../tables.js')
const { untilStopped } = require('../stop.js')
const { json, shown } = require('../text.js')
const { openWorkspace, withLeases } = require('../workspace.js')

const FOLLOW_MS = 500

exports.command = 'leases'
exports.describe = 'The leases: list them, release one by force, what happened to them'

/** @param {import('yargs').Argv} parser */
exports.builder = (parser) =>
  parser
    .command(withExitCodes(list))
    .command(withExitCodes(release))
    .command(withExitCodes(events))
    .demandCommand(1, 'Which one: list, release or events?')

/** @type {import('../command.js').Command} */
const list = {
  command: 'list',
  describe: 'Who holds what, for how long, and how many wait',
  /** @param {import('yargs').Argv} parser */
  builder: (parser) => parser.example('$0 leases list', 'all leases, those that have ended too'),
  /** @param {{workspace: string, json: boolean}} options */
  handler: async (options) => {
    const { root } = await openWorkspace(options)
    const leases = await withLeases(root, async (manager) => (await manager.listLeases()).map(leaseShown))
    answer(options, { workspace: root, database: leases !== null, leases: leases ?? [] }, (found) => {
      if (!found.database) return 'no database yet: nobody has acquired a lease here'
      return found.leases.length > 0 ? leaseTable(found.leases) : 'no leases'
    })
  },
}

/** @type {import('../command.js').Command} */
const release = {
  command: 'release <task> <phase>',
  describe: "End somebody's lease, whoever holds it; who did it and why is recorded",
  /** @param {import('yargs').Argv} parser */
  builder: (parser) =>
    parser
      .positional('task', { type: 'string', describe: 'The task' })
      .positional('phase', { type: 'string', describe: 'The phase' })
      .option('force', {
        type: 'boolean',
        default: false,
        describe: "Needed: the holder's work is refused from then on",
      })
      .option('by', { type: 'string', requiresArg: true, describe: 'Who releases it; needed' })
      .option('reason', { type: 'string', requiresArg: true, describe: 'Why; needed' })
      .example('$0 leases release TASK-1 IMPLEMENT --force --by ann --reason "agent-7 hangs"', 'end this lease'),
  /** @param {{workspace: string, json: boolean, task: string, phase: string, force: boolean, by?: string, reason?: string}} options */
  handler: async (options) => {
    const { task, phase, force, by, reason } = options
    if (!force || !by || !reason) {
      throw new UsageError("Ending somebody's lease needs --force, --by WHO and --reason WHY; nothing was released")
    }
    const { root } = await openWorkspace(options)
    const released = await withLeases(root, (manager) => manager.forceRelease(task, phase, { by, reason }))
    if (!released) process.exitCode = EXIT.FOUND
    answer(options, { workspace: root, released: released ?? null }, (found) =>
      found.released
        ? `released ${shown(task)} ${shown(phase)}, which ${shown(found.released.agent_id)} held since ${shown(found.released.acquired_at)}`
        : `nobody holds ${shown(task)} ${shown(phase)}: driftlock leases list shows what is held`,
    )
  },
}

/** @typedef {import('../../index.js').LeaseEvent} LeaseEvent */

/** @type {import('../command.js').Command} */
const events = {
  command: 'events',
  describe: 'What happened to leases without their holders: expiries, take-overs, forced releases',
  /** @param {import('yargs').Argv} parser */
  builder: (parser) =>
    parser
      .option('follow', {
        alias: 'f',
        type: 'boolean',
        default: false,
        describe: 'Go on with each new one; with --json one document a line',
      })
      .option('limit', { type: 'number', requiresArg: true, default: 50, describe: 'The most recent so many' })
      .example('$0 leases events --follow', 'until Ctrl+C'),
  /** @param {{workspace: string, json: boolean, follow: boolean, limit: number}} options */
  handler: async (options) => {
    if (!Number.isInteger(options.limit) || options.limit < 0)
      throw new UsageError('--limit takes a whole number from 0 on')
    const { root } = await openWorkspace(options)
    const all = await readEvents(root)
    const recent = options.limit === 0 ? [] : all.slice(-options.limit)
    if (options.follow) return follow(root, recent, all.at(-1)?.id ?? 0, options)
    answer(options, { workspace: root, total: all.length, events: recent }, (found) =>
      found.events.length > 0 ? eventTable(found.events) : 'no events',
    )
  },
}

/** @param {string} root @returns {Promise<LeaseEvent[]>} */
const readEvents = async (root) => (await withLeases(root, (manager) => manager.listLeaseEvents())) ?? []

/** @param {string} root @param {LeaseEvent[]} recent @param {number} latest @param {{json: boolean}} options */
async function follow(root, recent, latest, options) {
  const tell = (/** @type {LeaseEvent} */ event) => print(options.json ? json(event, 0) : eventLine(event))
  recent.forEach(tell)
  const signal = untilStopped()
  let known = latest
  while (!signal.aborted) {
    await sleep(FOLLOW_MS, undefined, { signal }).catch(() => {})
    for (const event of await readEvents(root)) {
      if (event.id <= known) continue
      known = event.id
      tell(event)
    }
  }
}

/** @param {LeaseEvent} event */
const cells = (event) => [
  event.at,
  event.kind,
  shown(event.taskId),
  shown(event.phase, 20),
  shown(event.agentId, 40),
  shown(event.by ?? '-', 40),
  shown(event.reason ?? '-'),
]

/** @param {LeaseEvent} event */
const eventLine = (event) => cells(event).join('  ')

/** @param {LeaseEvent[]} list */
const eventTable = (list) => table(['AT', 'EVENT', 'TASK', 'PHASE', 'HOLDER', 'BY', 'REASON'], list.map(cells))
