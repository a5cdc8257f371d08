'use strict'

/** How a command can end; documented in --help and docs/cli.md. */
const EXIT = Object.freeze({
  /** Done, and nothing was found that was asked for. */
  OK: 0,
  /** Something was found: drift at --fail-on, a broken ledger, a problem of the doctor's. */
  FOUND: 1,
  /** Wrong usage; nothing was touched. */
  USAGE: 2,
  /** It couldn't be done. */
  FAILED: 3,
})

/** A failure that is told by its message, without a stack. */
class CommandError extends Error {
  /**
   * @param {string} code stays the same from version to version
   * @param {string} message names the thing, the cause and the next step
   * @param {number} [exitCode]
   */
  constructor(code, message, exitCode = EXIT.FAILED) {
    super(message)
    this.code = code
    this.exitCode = exitCode
  }
}

/** A mistake of the person at the keyboard. */
class UsageError extends CommandError {
  /** @param {string} message */
  constructor(message) {
    super('USAGE', message, EXIT.USAGE)
  }
}

module.exports = { EXIT, CommandError, UsageError }
