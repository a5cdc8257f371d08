'use strict'

const EXIT_CODES = `Exit codes:
  0  done, and nothing found
  1  found: drift at --fail-on, a broken ledger, a problem of the doctor's, no such lease to release
  2  wrong usage; nothing was touched
  3  it couldn't be done; the message says why and what to do`

/**
 * A command, as yargs takes it.
 *
 * @typedef {object} Command
 * @property {string} command
 * @property {string} describe
 * @property {(parser: import('yargs').Argv<any>) => import('yargs').Argv<any>} builder
 * @property {(options: any) => Promise<void>} [handler]
 */

/**
 * A command whose help ends with the exit codes. Yargs forgets what was said of the command above.
 *
 * @param {Command} command
 * @returns {import('yargs').CommandModule<any, any>}
 */
const withExitCodes = (command) => ({
  handler: () => {},
  ...command,
  builder: (parser) => command.builder(parser).epilogue(EXIT_CODES),
})

module.exports = { EXIT_CODES, withExitCodes }
