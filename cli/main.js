'use strict'

// The command `driftlock`: reads the command line, runs a command, tells how it ended.

const { readdirSync } = require('node:fs')
const { join } = require('node:path')
const yargs = require('yargs')
const { EXIT_CODES, withExitCodes } = require('./command.js')
const { EXIT, UsageError } = require('./exit.js')
const { chooseStore, withoutCredentials } = require('./store.js')
const { json, shownLines } = require('./text.js')
const { version } = require('./workspace.js')

/** One module for each command. @returns {import('./command.js').Command[]} */
const commands = () =>
  readdirSync(join(__dirname, 'commands'))
    .filter((name) => name.endsWith('.js'))
    .sort()
    .map((name) => require(join(__dirname, 'commands', name)))

/** @param {string[]} args */
function parserOf(args) {
  const parser = yargs(args)
    .scriptName('driftlock')
    .usage('$0 COMMAND [options]\n\nShows and operates what agents share in a workspace: leases, prompts, the ledger.')
    .parserConfiguration({
      'dot-notation': false,
      'duplicate-arguments-array': false,
      'parse-positional-numbers': false,
    })
    .option('workspace', {
      alias: 'w',
      type: 'string',
      requiresArg: true,
      default: '.',
      describe: 'The folder that the agents work in; a git worktree stands for its repository',
    })
    .option('store', {
      type: 'string',
      requiresArg: true,
      describe: 'The PostgreSQL database that the agents use, as a URL; default: DRIFTLOCK_STORE, or the workspace',
    })
    .middleware(({ store }) => chooseStore(store))
    .option('json', { type: 'boolean', default: false, describe: 'Answer one JSON document' })
    .completion('completion', 'Print a completion script for bash or zsh')
  for (const command of commands()) parser.command(withExitCodes(command))
  return parser
    .demandCommand(1, 'Which command? One of those above is needed.')
    .strict()
    .strictCommands()
    .recommendCommands()
    .version(version())
    .help()
    .alias('help', 'h')
    .locale('en')
    .wrap(Math.min(100, process.stdout.columns ?? 100))
    .exitProcess(false)
    .fail((message, error) => {
      throw error ?? new UsageError(message)
    })
    .epilogue(EXIT_CODES)
}

/** @param {string[]} args */
async function main(args) {
  // A reader that has seen enough, such as head, is no failure.
  // The command line may name a password, which others could see in the list of processes.
  if (args.some((arg) => arg !== withoutCredentials(arg))) process.title = 'driftlock'
  process.stdout.on('error', (error) => {
    if (/** @type {NodeJS.ErrnoException} */ (error).code !== 'EPIPE') throw error
    process.exit()
  })
  try {
    tellWarnings()
    await parserOf(args).parseAsync()
  } catch (error) {
    process.exitCode = tell(error, args)
  }
}

/** What the package warns of goes to standard error, as a line for people. */
function tellWarnings() {
  require('../index.js').setLogger(({ level, message, timestamp, ...fields }) => {
    const facts = Object.entries(fields).map(([name, value]) => `${name}: ${value}`)
    process.stderr.write(`${shownLines(`${level}: ${message}${facts.length ? ` (${facts.join(', ')})` : ''}`)}\n`)
  })
}

/**
 * Tells an error by its message; one that nobody expected with its stack too, for it is a defect.
 *
 * @param {any} error
 * @param {string[]} args
 */
function tell(error, args) {
  const isUsage = error instanceof UsageError || error?.name === 'YError'
  const code = isUsage ? 'USAGE' : typeof error?.code === 'string' ? error.code : 'DEFECT'
  const message = withoutCredentials(String(error?.message ?? error))
  if (args.includes('--json')) process.stdout.write(`${json({ error: { code, message } })}\n`)
  process.stderr.write(`driftlock: ${shownLines(message)}\n`)
  if (isUsage) process.stderr.write('Help: driftlock --help, driftlock COMMAND --help\n')
  else if (code === 'DEFECT') process.stderr.write(`${shownLines(withoutCredentials(String(error?.stack)))}\n`)
  return isUsage ? EXIT.USAGE : (error?.exitCode ?? EXIT.FAILED)
}

module.exports = { main }
