'use strict'

const { withExitCodes } = require('../command.js')
const { PhaseLedger } = require('../../index.js')
const { EXIT } = require('../exit.js')
const { answer, colour } = require('../output.js')
const { count, counted, shown } = require('../text.js')
const { openWorkspace } = require('../workspace.js')

exports.command = 'ledger'
exports.describe = 'The ledger of phases: is it whole, what is in it'

/** @param {import('yargs').Argv} parser */
exports.builder = (parser) =>
  parser.command(withExitCodes(verify)).command(withExitCodes(stats)).demandCommand(1, 'Which one: verify or stats?')

/** @typedef {{workspace: string, json: boolean}} Options */

/** @type {import('../command.js').Command} */
const verify = {
  command: 'verify',
  describe: 'Check each hash and the chain; exit code 1 if it is not whole',
  /** @param {import('yargs').Argv} parser */
  builder: (parser) =>
    parser
      .example('$0 ledger verify', 'reads the whole file')
      .epilogue(
        "The chain can't show that entries at its end were cut off: keep the last hash (driftlock ledger stats) where the " +
          "agents can't write, and compare.",
      ),
  /** @param {Options} options */
  handler: async (options) => {
    const { root } = await openWorkspace(options)
    const found = await new PhaseLedger(root).verify()
    if (!found.valid) process.exitCode = EXIT.FOUND
    answer(options, { workspace: root, ...found }, () => verdict(found))
  },
}

/** @param {import('../../index.js').VerificationResult} found */
function verdict(found) {
  if (found.valid) return `${colour('green', 'whole')}: ${counted(found.entries_checked, 'entry', 'entries')} checked`
  const lines = [colour('red', 'NOT WHOLE')]
  if (found.error) lines.push(`it can't be read to its end: ${shown(found.error, 1000)}`)
  if (found.broken_chain_at !== undefined) {
    const line = count(found.broken_chain_at + 1)
    lines.push(`entry ${line} does not follow the one before it: something was taken out, put in or moved there`)
  }
  const changed = found.tampered_entries ?? []
  if (changed.length > 0) {
    const ids = changed.slice(0, 20).map((id) => shown(id, 40))
    lines.push(
      `${counted(changed.length, 'entry was', 'entries were')} changed: ${ids.join(', ')}${changed.length > 20 ? ', …' : ''}`,
    )
  }
  lines.push('Compare with a backup of state/process/ledger.jsonl; who could write the file since then?')
  return lines.join('\n')
}

/** @type {import('../command.js').Command} */
const stats = {
  command: 'stats',
  describe: 'How many entries and tasks, from when to when, and the last hash',
  /** @param {import('yargs').Argv} parser */
  builder: (parser) => parser.example('$0 ledger stats --json | jq -r .lastHash', 'the hash to keep elsewhere'),
  /** @param {Options} options */
  handler: async (options) => {
    const { root } = await openWorkspace(options)
    const found = await new PhaseLedger(root).getStats()
    answer(options, { workspace: root, ...found }, () => {
      const lines = [`${counted(found.totalEntries, 'entry', 'entries')} of ${counted(found.uniqueTasks, 'task')}`]
      if (found.oldestEntry) lines.push(`from ${shown(found.oldestEntry)} to ${shown(found.newestEntry)}`)
      if (found.damagedLines) lines.push(`${counted(found.damagedLines, 'line')} can't be read: driftlock doctor`)
      return [...lines, `last hash: ${shown(found.lastHash, 64)}`].join('\n')
    })
  },
}
