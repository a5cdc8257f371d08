'use strict'

const { spawnSync } = require('node:child_process')
const { existsSync } = require('node:fs')
const { join } = require('node:path')
const { CommandError, EXIT, UsageError } = require('../exit.js')
const { measure } = require('../bench.js')
const { answer, table } = require('../output.js')
const { count } = require('../text.js')

const MOST = 1_000_000
const BENCHES = join(__dirname, '..', '..', 'benches', 'bench.mjs')

exports.command = 'bench'
exports.describe = 'How fast it is on this machine: a few seconds, in a temporary workspace'

/** @param {import('yargs').Argv} parser */
exports.builder = (parser) =>
  parser
    .option('iterations', { type: 'number', requiresArg: true, default: 2000, describe: 'Calls of each operation' })
    .option('folder', {
      type: 'string',
      requiresArg: true,
      describe: 'Where to make the temporary workspace, for another disk; default: the folder for temporary files',
    })
    .option('full', {
      type: 'boolean',
      default: false,
      describe: "All benchmarks of a clone of driftlock's repository (npm run bench), some ten minutes",
    })
    .example('$0 bench --folder .', "on the workspace's disk")

/** @param {{json: boolean, iterations: number, folder?: string, full: boolean}} options */
exports.handler = async (options) => {
  const { iterations, folder, full } = options
  if (!Number.isInteger(iterations) || iterations < 1 || iterations > MOST) {
    throw new UsageError(`--iterations takes a whole number from 1 to ${count(MOST)}`)
  }
  if (full) {
    if (options.json || folder !== undefined) throw new UsageError('--full goes neither with --json nor with --folder')
    return runAll()
  }
  const operations = await measure(iterations, folder)
  const { platform, arch, versions } = process
  answer(options, { iterations, unit: 'microseconds', node: versions.node, platform, arch, operations }, (found) =>
    table(
      ['OPERATION', '#P50', '#P95', '#P99', '#MAX'],
      found.operations.map(({ operation, p50, p95, p99, max }) => [operation, ...[p50, p95, p99, max].map(shownTime)]),
    ),
  )
}

/** @param {number} microseconds */
function shownTime(microseconds) {
  return microseconds < 1000 ? `${microseconds.toFixed(1)} µs` : `${(microseconds / 1000).toFixed(2)} ms`
}

function runAll() {
  if (!existsSync(BENCHES)) {
    throw new CommandError(
      'NO_CHECKOUT',
      'The full benchmarks are in a clone of the repository; without --full it works here',
    )
  }
  const { status } = spawnSync(process.execPath, ['--expose-gc', BENCHES], { stdio: 'inherit' })
  if (status !== 0) process.exitCode = EXIT.FAILED
}
