'use strict'

const { EXIT } = require('../exit.js')
const { examine } = require('../doctor.js')
const { answer, colour } = require('../output.js')
const { counted, shown } = require('../text.js')
const { openWorkspace } = require('../workspace.js')

exports.command = 'doctor'
exports.describe = 'Is everything as it should be? For each problem what to do; exit code 1 if there is one'

/** @param {import('yargs').Argv} parser */
exports.builder = (parser) =>
  parser
    .example('$0 doctor', 'reads all files once; safe at any time')
    .epilogue('Results: ok, note (worth knowing, nothing is wrong), problem.')

/** @typedef {import('../doctor.js').Check} Check */

/** @param {{workspace: string, json: boolean}} options */
exports.handler = async (options) => {
  const workspace = await openWorkspace(options)
  const checks = await examine(workspace)
  const problems = checks.filter(({ result }) => result === 'problem').length
  if (problems > 0) process.exitCode = EXIT.FOUND
  answer(options, { workspace: workspace.root, problems, checks }, (found) =>
    [...found.checks.map(line), '', verdict(problems)].join('\n'),
  )
}

/** @param {Check} check */
function line({ check, result, found, advice }) {
  const word = { ok: colour('green', 'ok     '), note: 'note   ', problem: colour('red', 'PROBLEM') }[result]
  const text = `${word}  ${check.padEnd(13)} ${shown(found, 2000)}`
  return advice ? `${text}\n${' '.repeat(23)}→ ${shown(advice, 2000)}` : text
}

/** @param {number} problems */
const verdict = (problems) =>
  problems === 0 ? colour('green', 'no problems') : colour('red', counted(problems, 'problem'))
