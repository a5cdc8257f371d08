'use strict'

// Which workspace a command is about, and what is in it. Creates nothing.

const { existsSync, readFileSync, realpathSync, statSync } = require('node:fs')
const { dirname, join, resolve } = require('node:path')
const { PhaseLeaseManager, resolveWorkspace } = require('../index.js')
const { CommandError, UsageError } = require('./exit.js')
const { onServer, serverParts, serverShown } = require('./store.js')
const { shown } = require('./text.js')

/**
 * @typedef {object} Workspace
 * @property {string} root the folder that agents of all worktrees share
 * @property {string} asked the folder that was asked for
 * @property {boolean} linked whether that is in a linked git worktree
 */

const FILES = Object.freeze({
  database: 'state/orchestrator.db',
  attestations: 'state/process/prompt_attestations.jsonl',
  updates: 'state/process/prompt_baseline_updates.jsonl',
  baselines: 'state/process/prompt_baselines.json',
  ledger: 'state/process/ledger.jsonl',
  counters: 'state/telemetry/counters.jsonl',
})

/** @param {string} root @param {keyof typeof FILES} name */
const pathOf = (root, name) => join(root, ...FILES[name].split('/'))

/** @param {string} root */
const hasState = (root) => Object.keys(FILES).some((name) => existsSync(pathOf(root, /** @type {any} */ (name))))

/** The nearest folder with a `.git`. @param {string} folder @returns {string | undefined} */
function worktreeOf(folder) {
  for (let at = folder; ; at = dirname(at)) {
    if (existsSync(join(at, '.git'))) return at
    if (at === dirname(at)) return undefined
  }
}

/**
 * Finds the workspace of a folder: what {@link resolveWorkspace} says in a linked worktree, so that all agents are seen;
 * else the folder itself if it has state, or the root of its repository.
 *
 * @param {string} folder
 * @returns {Workspace}
 */
function findWorkspace(folder) {
  // An unset variable of a script must not mean the folder that it happens to run in.
  if (folder === '') throw new UsageError('--workspace is empty; leave it out for the current folder')
  const asked = resolve(folder)
  if (!statSync(asked, { throwIfNoEntry: false })?.isDirectory()) {
    throw new CommandError(
      'NO_WORKSPACE',
      `There is no folder ${shown(asked, 4096)}. Give the workspace with --workspace DIR`,
    )
  }
  const real = realpathSync(asked)
  const shared = resolveWorkspace(real)
  const linked = ![undefined, shared].includes(worktreeOf(real))
  return { root: !linked && hasState(real) ? real : shared, asked: real, linked }
}

/**
 * The workspace of a command's options, in which something must be.
 *
 * @param {{workspace: string}} options
 */
async function openWorkspace(options) {
  const workspace = findWorkspace(options.workspace)
  if (onServer()) {
    if (Object.values(await serverParts()).includes(true)) return workspace
    throw new CommandError(
      'NO_STATE',
      `No agent has used the schema of ${serverShown()} yet: nothing of driftlock's is in it. Give the right database and ` +
        'schema with --store URL',
    )
  }
  if (!hasState(workspace.root)) {
    throw new CommandError(
      'NO_STATE',
      `No agent has used the workspace ${shown(workspace.root, 4096)} yet: it has no ${FILES.database} and no journals in ` +
        'state/process. Give the right one with --workspace DIR',
    )
  }
  return workspace
}

/** @param {string} root */
const hasDatabase = (root) => existsSync(pathOf(root, 'database'))

/**
 * Lends the leases of a workspace; answers null where no agent has made a database or schema yet, since using it would.
 *
 * @template T
 * @param {string} root
 * @param {(leases: PhaseLeaseManager) => Promise<T>} use
 * @returns {Promise<T | null>}
 */
async function withLeases(root, use) {
  if (!(onServer() ? (await serverParts()).leases : hasDatabase(root))) return null
  const leases = new PhaseLeaseManager(root)
  try {
    return await use(leases)
  } finally {
    leases.close()
  }
}

/** The package's version. @returns {string} */
const version = () => JSON.parse(readFileSync(join(__dirname, '..', 'package.json'), 'utf8')).version

module.exports = { FILES, findWorkspace, hasDatabase, hasState, openWorkspace, pathOf, version, withLeases, worktreeOf }
