'use strict'

// What `driftlock doctor` looks at. Each check answers what it found, and for a problem what to do.

const { readdirSync, readFileSync, statSync } = require('node:fs')
const { dirname, join } = require('node:path')
const { PhaseLedger } = require('../index.js')
const { readBaselines } = require('./baselines.js')
const { Journal } = require('./journal.js')
const { LARGE_LOG } = require('./snapshot.js')
const { onServer, serverNotifies, serverShown } = require('./store.js')
const { counted, size } = require('./text.js')
const { FILES, hasState, pathOf, version, withLeases, worktreeOf } = require('./workspace.js')

const JOURNALS = /** @type {const} */ (['attestations', 'updates', 'ledger', 'counters'])
const PUT_ASIDE = /\.damaged-/
const TEMPORARY = /\.[0-9a-f]{32}\.tmp$/
/** A temporary file may be in use for a moment. */
const OLD_MS = 60_000
const MOST_NAMES = 5
/** By so much clocks may differ before people are told. */
const CLOCK_MS = 1000

/**
 * @typedef {object} Check
 * @property {string} check what was looked at
 * @property {'ok' | 'note' | 'problem'} result
 * @property {string} found
 * @property {string} [advice] what to do
 */

/** @param {string} check @param {string} found @returns {Check} */
const ok = (check, found) => ({ check, result: 'ok', found })
/** @param {string} check @param {string} found @param {string} [advice] @returns {Check} */
const note = (check, found, advice) => ({ check, result: 'note', found, ...(advice && { advice }) })
/** @param {string} check @param {string} found @param {string} advice @returns {Check} */
const problem = (check, found, advice) => ({ check, result: 'problem', found, advice })

/**
 * @param {import('./workspace.js').Workspace} workspace
 * @returns {Promise<Check[]>}
 */
async function examine(workspace) {
  const { root } = workspace
  if (onServer())
    return [...versions(), ...(await told('server', () => server(root))), ...(await told('chain', () => chain(root)))]
  const parts = [
    versions(),
    worktree(workspace),
    await told('database', () => database(root)),
    ...(await Promise.all(JOURNALS.map((name) => told(name, () => journal(root, name))))),
    await told('baselines', () => baselines(root)),
    await told('chain', () => chain(root)),
    await told('leftovers', () => leftovers(root)),
  ]
  return parts.flat()
}

/**
 * A check that can't be made is a problem too.
 *
 * @param {string} check
 * @param {() => Promise<Check[]> | Check[]} look
 */
async function told(check, look) {
  try {
    return await look()
  } catch (error) {
    const { message } = /** @type {Error} */ (error)
    return [problem(check, message, 'see to it that this user can read and write it, then try again')]
  }
}

/** @returns {Check[]} */
function versions() {
  // Without excludeNetwork the report resolves the addresses of open connections, which can take seconds.
  const reporter = Object.assign(process.report, { excludeNetwork: true })
  const report = /** @type {{sharedObjects: string[]}} */ (/** @type {unknown} */ (reporter.getReport()))
  const binary = report.sharedObjects.find((path) => /driftlock\.[^/\\]*\.node$/.test(path))
  const own = version()
  const text = `driftlock ${own}, Node ${process.versions.node}, ${process.platform}-${process.arch}, binary ${binary ?? 'unknown'}`
  const other = binary && versionBeside(binary)
  if (!other || other === own) return [ok('versions', text)]
  return [problem('versions', `${text} of version ${other}`, 'install again: package and binary are of one version')]
}

/** The version of the package that a binary is in. @param {string} binary @returns {string | undefined} */
function versionBeside(binary) {
  try {
    return JSON.parse(readFileSync(join(dirname(binary), 'package.json'), 'utf8')).version
  } catch {
    return undefined
  }
}

/** @param {import('./workspace.js').Workspace} workspace @returns {Check[]} */
function worktree({ root, asked, linked }) {
  if (!linked) return [ok('workspace', root)]
  const own = worktreeOf(asked) ?? asked
  if (!hasState(own)) return [note('workspace', `${root}, for the linked git worktree ${own}`)]
  return [
    problem(
      'workspace',
      `the linked git worktree ${own} has state of its own: agents that use it don't exclude those that use ${root}`,
      'give all agents resolveWorkspace(folder) as their workspace; then remove the state folder in the worktree',
    ),
  ]
}

/** @param {string} root @returns {Promise<Check[]>} */
async function server(root) {
  const found = await withLeases(root, async (manager) => ({
    health: await manager.health(),
    stats: await manager.getStats(),
  }))
  if (found?.health.store !== 'postgres') {
    return [note('server', `${serverShown()} answers; nobody has acquired a lease there yet`)]
  }
  const { clockAheadMs, databaseBytes, schemaVersion, server, serverVersion } = found.health
  const text = `${server}, PostgreSQL ${serverVersion}: ${size(databaseBytes)}, ${counted(found.stats.totalLeases, 'lease')}`
  const behind = `the server's clock is ${Math.abs(clockAheadMs)} ms ${clockAheadMs < 0 ? 'behind' : 'ahead of'} this machine's`
  return [
    ok('server', text),
    ok('schema', `the leases' part has version ${schemaVersion}`),
    Math.abs(clockAheadMs) < CLOCK_MS
      ? ok('clock', `leases go by the server's clock; ${behind}`)
      : note('clock', behind, 'leases go by the server alone; keep both synchronised, so that people are not misled'),
    (await serverNotifies())
      ? ok('notifications', 'come: whoever waits for a lease hears at once that it is free')
      : note(
          'notifications',
          'do not come, as through a pooler in transaction mode: whoever waits asks up to 50 times a second instead',
          'for faster hand-overs give the agents a way to the server without the pooler',
        ),
  ]
}

/** @param {string} root @returns {Promise<Check[]>} */
async function database(root) {
  const found = await withLeases(root, async (manager) => ({
    health: await manager.health(),
    stats: await manager.getStats(),
  }))
  if (!found) return [note('database', 'no database yet: nobody has acquired a lease here')]
  const { health, stats } = found
  if (health.store !== 'sqlite') return []
  const { fileSystem, databaseBytes, logBytes } = health
  const checks = [
    health.wal
      ? ok(
          'database',
          `in WAL mode, ${size(databaseBytes)}, log ${size(logBytes)}; ${counted(stats.totalLeases, 'lease')}`,
        )
      : problem(
          'database',
          `${health.databasePath} is not in WAL mode`,
          'find out which program has set PRAGMA journal_mode, and end it; the next opening sets WAL again',
        ),
  ]
  if (logBytes > LARGE_LOG) {
    checks.push(
      problem(
        'log',
        `the database's write-ahead log has ${size(logBytes)}`,
        'a reader does not end its transaction: look for a stopped or hanging process (lsof on the database)',
      ),
    )
  }
  checks.push(fileSystemCheck(fileSystem))
  checks.push(
    health.oldSchema
      ? note(
          'schema',
          'the table of leases was made by the code before driftlock; it works, each change takes longer',
          'to renew it: stop all agents, rename the table phase_leases, start them',
        )
      : ok('schema', 'of driftlock'),
  )
  checks.push(
    health.clock === 'boot'
      ? ok('clock', 'leases go by the time since the machine started; setting the wall clock does them nothing')
      : note('clock', 'leases go by the wall clock here', 'keep it synchronised; setting it ends or prolongs leases'),
  )
  return checks
}

/** @param {import('../index.js').FileSystemHealth} fileSystem */
function fileSystemCheck({ name, kind, locksExclude }) {
  const text = `${name} (${kind})`
  if (locksExclude === true) return ok('file system', `${text}: locks exclude`)
  if (locksExclude === undefined) {
    return note('file system', `${text}: whether locks exclude is not known`, 'a local file system is safe')
  }
  return problem('file system', `${text}: locks may not exclude`, 'move the workspace to a local file system')
}

/** @param {string} root @param {typeof JOURNALS[number]} name @returns {Promise<Check[]>} */
async function journal(root, name) {
  const read = new Journal(pathOf(root, name))
  await read.read(() => {})
  if (!read.exists) return [note(name, `no ${FILES[name]} yet`)]
  const text = `${FILES[name]}: ${counted(read.lines, 'line')}`
  const checks = []
  if (read.damagedLines > 0) {
    checks.push(
      problem(
        name,
        `${text}, ${counted(read.damagedLines, 'of them is', 'of them are')} no JSON object, first line ${read.firstDamagedLine}`,
        "readers skip them; see what the line was (sed -n 'Np'), and who else writes the file",
      ),
    )
  }
  if (read.unfinishedBytes > 0) {
    checks.push(
      note(
        name,
        `${text}; the last line has no end yet`,
        'a writer is at work, or died: the next append puts it right',
      ),
    )
  }
  return checks.length > 0 ? checks : [ok(name, text)]
}

/** @param {string} root @returns {Promise<Check[]>} */
async function baselines(root) {
  const { baselines, strange } = await readBaselines(root)
  if (strange.length === 0) return [ok('baselines', counted(baselines.length, 'baseline'))]
  return [
    problem(
      'baselines',
      `${counted(strange.length, 'entry', 'entries')} of ${FILES.baselines} can't be baselines: ${names(strange)}`,
      'they count as none; set them anew: driftlock baseline reset',
    ),
  ]
}

/** @param {string} root @returns {Promise<Check[]>} */
async function chain(root) {
  const found = await new PhaseLedger(root).verify()
  if (found.valid)
    return [ok('chain', `the ledger's ${counted(found.entries_checked, 'entry', 'entries')} follow each other`)]
  return [
    problem('chain', "the ledger's chain is broken or entries were changed", 'driftlock ledger verify tells where'),
  ]
}

/** @param {string} root @returns {Check[]} */
function leftovers(root) {
  const files = filesBelow(join(root, 'state'))
  const aside = files.filter((path) => PUT_ASIDE.test(path))
  const temporary = files.filter((path) => TEMPORARY.test(path) && isOld(path))
  const checks = []
  if (aside.length > 0) {
    checks.push(
      problem(
        'leftovers',
        `${counted(aside.length, 'file was', 'files were')} damaged and put aside: ${names(aside)}`,
        'see what is in them and why (a full disk, a power cut, another program), then remove them',
      ),
    )
  }
  if (temporary.length > 0) {
    checks.push(
      problem(
        'leftovers',
        `${counted(temporary.length, 'temporary file', 'temporary files')} of a crash: ${names(temporary)}`,
        'remove them',
      ),
    )
  }
  return checks.length > 0 ? checks : [ok('leftovers', 'none')]
}

/** @param {string[]} list */
const names = (list) => list.slice(0, MOST_NAMES).join(', ') + (list.length > MOST_NAMES ? ', …' : '')

/** @param {string} path */
const isOld = (path) => Date.now() - (statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? Number.NaN) > OLD_MS

/** @param {string} folder @returns {string[]} */
function filesBelow(folder) {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name))
}

module.exports = { examine }
