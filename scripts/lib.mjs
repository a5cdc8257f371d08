// What the scripts share. Only Node's own modules: `npm run demo` starts before anything is installed.
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = dirname(dirname(fileURLToPath(import.meta.url)))

/** @type {Record<string, string>} */
const HINTS = {
  cargo: 'Install Rust (see rust-lang.org), then try again.',
  objdump: 'It is part of the binutils.',
}

/**
 * Ends the script with a message for a person, without a stack.
 * @param {string} message
 * @returns {never}
 */
export function fail(message) {
  console.error(message)
  process.exit(1)
}

/**
 * Runs a program to its end, in the foreground; ends this script if it fails.
 * @param {string} program
 * @param {string[]} args
 * @param {import('node:child_process').SpawnSyncOptions} [options]
 */
export function run(program, args, options = {}) {
  const { status, signal, error } = spawnSync(program, args, { cwd: root, stdio: 'inherit', ...options })
  if (/** @type {NodeJS.ErrnoException | undefined} */ (error)?.code === 'ENOENT')
    fail(`${program} was not found. ${HINTS[program] ?? ''}`.trim())
  if (error) throw error
  if (status !== 0) {
    console.error(`${program} ${args.join(' ')} ${signal ? `was ended by ${signal}` : `failed with ${status}`}`)
    process.exit(status ?? 1)
  }
}

/**
 * Runs a program and answers what it printed, or null if it is absent or fails.
 * @param {string} program
 * @param {string[]} args
 * @param {import('node:child_process').SpawnSyncOptions} [options]
 * @returns {string | null}
 */
export function outputOf(program, args, options = {}) {
  const { status, stdout } = spawnSync(program, args, {
    cwd: root,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
    maxBuffer: 2 ** 28,
    ...options,
  })
  return status === 0 ? String(stdout) : null
}

/**
 * Runs npm as it was started, so that no other one is found.
 * @param {string[]} args
 * @param {import('node:child_process').SpawnSyncOptions} [options]
 */
export function npm(args, options) {
  const cli = process.env.npm_execpath
  if (cli) run(process.execPath, [cli, ...args], options)
  else run('npm', args, { shell: process.platform === 'win32', ...options })
}

/** Ends the script unless Rust is there. */
export function needRust() {
  if (!outputOf('cargo', ['--version'])) fail(`Rust is needed to build. ${HINTS.cargo}`)
}

/**
 * When something below a path was last changed, in milliseconds; 0 if there is nothing.
 * @param {string} path
 * @returns {number}
 */
export function lastChange(path) {
  const stats = statSync(path, { throwIfNoEntry: false })
  if (!stats) return 0
  if (!stats.isDirectory()) return stats.mtimeMs
  return Math.max(stats.mtimeMs, ...readdirSync(path).map((name) => lastChange(join(path, name))))
}

/** The folder of the newest PostgreSQL server's programs, as Debian installs them; none if there is none. */
export function postgresPrograms() {
  const versions = '/usr/lib/postgresql'
  const folders = existsSync(versions) ? readdirSync(versions).map((version) => join(versions, version, 'bin')) : []
  return folders.sort().findLast((folder) => existsSync(join(folder, 'initdb')))
}
