'use strict'

const { withExitCodes } = require('../command.js')
const { PromptAttestationManager } = require('../../index.js')
const { readBaselines } = require('../baselines.js')
const { CommandError, UsageError } = require('../exit.js')
const { Journal } = require('../journal.js')
const { answer, table } = require('../output.js')
const { onServer } = require('../store.js')
const { shown } = require('../text.js')
const { openWorkspace, pathOf } = require('../workspace.js')

const HASH = /^[0-9a-f]{64}$/

exports.command = 'baseline'
exports.describe = 'The baselines of prompts: list them, set one anew'

/** @param {import('yargs').Argv} parser */
exports.builder = (parser) =>
  parser.command(withExitCodes(list)).command(withExitCodes(reset)).demandCommand(1, 'Which one: list or reset?')

/** @typedef {import('../baselines.js').Baseline} Baseline */

/** @type {import('../command.js').Command} */
const list = {
  command: 'list',
  describe: 'The baselines, by task and phase',
  /** @param {import('yargs').Argv} parser */
  builder: (parser) =>
    parser.option('task', { alias: 't', type: 'string', requiresArg: true, describe: 'Only of this task' }),
  /** @param {{workspace: string, json: boolean, task?: string}} options */
  handler: async (options) => {
    const { root } = await openWorkspace(options)
    const { baselines } = await readBaselines(root)
    const wanted = baselines.filter(({ taskId }) => options.task === undefined || taskId === options.task)
    answer(options, { workspace: root, baselines: wanted }, () =>
      wanted.length > 0 ? baselineTable(wanted) : 'no baselines',
    )
  },
}

/** @param {Baseline[]} baselines */
function baselineTable(baselines) {
  const rows = baselines.map((baseline) => [
    shown(baseline.taskId),
    shown(baseline.phase, 20),
    shown(baseline.hash.slice(0, 12)),
    String(baseline.version),
    shown(baseline.updatedAt ?? '-', 30),
    shown(baseline.updatedBy ?? '-', 30),
    shown(baseline.reason ?? '-', 50),
  ])
  return table(['TASK', 'PHASE', 'HASH', '#VERSION', 'UPDATED', 'BY', 'REASON'], rows)
}

/** @type {import('../command.js').Command} */
const reset = {
  command: 'reset',
  describe: 'Set the baseline of a task and phase, so that an intended change no longer counts as drift',
  /** @param {import('yargs').Argv} parser */
  builder: (parser) =>
    parser
      .option('task', { alias: 't', type: 'string', requiresArg: true, demandOption: true, describe: 'The task' })
      .option('phase', { alias: 'p', type: 'string', requiresArg: true, demandOption: true, describe: 'The phase' })
      .option('hash', { type: 'string', requiresArg: true, describe: 'The new hash: 64 lower-case hexadecimal digits' })
      .option('use-latest', {
        type: 'boolean',
        default: false,
        describe: 'The hash of the latest attestation of this task and phase',
      })
      .option('reason', { type: 'string', requiresArg: true, describe: 'Why; recorded' })
      .option('updated-by', { type: 'string', requiresArg: true, describe: 'Who; recorded' })
      .option('version-tag', { type: 'string', requiresArg: true, describe: 'A name for this version; recorded' })
      .option('dry-run', { type: 'boolean', default: false, describe: 'Only say what would change' })
      .example('$0 baseline reset -t TASK-1 -p SPEC --use-latest --dry-run', 'what would change')
      .example('$0 baseline reset -t TASK-1 -p SPEC --use-latest --updated-by ann --reason "new gates"', 'change it'),
  handler: resetBaseline,
}

/**
 * @typedef {{workspace: string, json: boolean, task: string, phase: string, hash?: string, useLatest: boolean}} Which
 * @param {Which & {reason?: string, updatedBy?: string, versionTag?: string, dryRun: boolean}} options
 */
async function resetBaseline(options) {
  const { task, phase, hash, useLatest, reason, updatedBy, versionTag, dryRun } = options
  if ((hash === undefined) === !useLatest)
    throw new UsageError('One of --hash and --use-latest is needed, and not both')
  if (hash !== undefined && !HASH.test(hash)) {
    throw new UsageError(`--hash takes 64 lower-case hexadecimal digits, got ${shown(hash, 80)}`)
  }
  if (phase.includes(':')) throw new UsageError('--phase must not contain a colon')
  const { root } = await openWorkspace(options)
  const newHash = hash ?? (await latestHash(root, task, phase))
  const find = async () =>
    (await readBaselines(root)).baselines.find((one) => one.taskId === task && one.phase === phase) ?? null
  const before = await find()
  if (!dryRun) {
    await new PromptAttestationManager(root).resetBaseline(task, phase, newHash, { reason, updatedBy, versionTag })
  }
  const after = dryRun ? { taskId: task, phase, hash: newHash, version: (before?.version ?? 0) + 1 } : await find()
  answer(options, { workspace: root, dryRun, before, after }, () =>
    [
      `${dryRun ? 'would reset' : 'reset'} the baseline of ${shown(task)} ${shown(phase)}`,
      `from ${before ? `${shown(before.hash, 64)} (version ${before.version})` : 'none'}`,
      `to   ${newHash} (version ${after?.version ?? '?'})${before?.hash === newHash ? ', the same hash' : ''}`,
    ].join('\n'),
  )
}

/** @param {string} root @param {string} task @param {string} phase */
async function latestHash(root, task, phase) {
  let latest = ''
  const take = (/** @type {Record<string, unknown>} */ record) => {
    if (record.task_id === task && record.phase === phase) latest = String(record.prompt_hash ?? '')
  }
  if (onServer()) {
    for (const record of await new PromptAttestationManager(root).getAttestationHistory(task)) take({ ...record })
  } else await new Journal(pathOf(root, 'attestations')).read(take)
  if (HASH.test(latest)) return latest
  throw new CommandError(
    'NO_ATTESTATION',
    `No prompt of ${shown(task)} ${shown(phase)} has been attested, so there is no latest hash. Give one with --hash, or ` +
      'look for the right names: driftlock baseline list',
  )
}
