// `npm run bench`: measures, reports, and checks the levels.

import { writeFileSync } from 'node:fs'
import { compileReference } from './candidates.mjs'
import { drawChart } from './chart.mjs'
import { check, LEVELS } from './levels.mjs'
import { HELP, readOptions, UsageError } from './options.mjs'
import { showProgress } from './progress.mjs'
import { meetsTargets, printReport } from './report.mjs'
import { Results } from './results.mjs'
import { contention } from './suites/contention.mjs'
import { growth } from './suites/growth.mjs'
import { operations } from './suites/operations.mjs'
import { stalls } from './suites/stalls.mjs'
import { start } from './suites/start.mjs'
import { waiting } from './suites/waiting.mjs'

const STEPS = [...start, ...operations, ...contention, ...waiting, ...stalls, ...growth]

try {
  const options = readOptions(process.argv.slice(2))
  if (options.help) console.log(HELP)
  else if (options.list) console.log(STEPS.map(({ name }) => name).join('\n'))
  else process.exitCode = (await main(options)) ? 0 : 1
} catch (error) {
  if (!(error instanceof UsageError)) throw error
  console.error(`${error.message}\n\n${HELP}`)
  process.exitCode = 2
}

/**
 * @param {ReturnType<typeof readOptions>} options
 * @returns {Promise<boolean>} whether all levels hold that were measured
 */
async function main({ only, quick, json, chart }) {
  const steps = STEPS.filter(({ name }) => only.length === 0 || only.some((part) => name.includes(part)))
  if (steps.length === 0) throw new UsageError(`no step has '${only.join("' or '")}' in its name; --list lists them`)
  compileReference()
  const results = new Results()
  const progress = showProgress(steps.length)
  for (const step of steps) {
    progress.begin(step.name)
    try {
      await step.run({ results, quick, advance: progress.advance })
    } catch (error) {
      results.failures.push(`${step.name}: ${error instanceof Error ? error.stack : error}`)
    }
  }
  progress.end()
  const levels = LEVELS.map((level) => check(level, results))
  printReport(results, levels)
  if (json) writeFileSync(json, `${JSON.stringify({ machine: machine(), quick, ...results, levels }, null, 2)}\n`)
  if (chart) writeFileSync(chart, drawChart(results))
  const areInTime = results.operations.every(
    ({ candidates }) => !candidates.driftlock || meetsTargets(candidates.driftlock),
  )
  return results.failures.length === 0 && (quick || (areInTime && levels.every(({ passed }) => passed !== false)))
}

function machine() {
  const { platform, arch, version } = process
  return { platform, arch, node: version }
}
