// Draws what the dashboard shows: a real run on the real programs, asked for by the dashboard's own expressions.
//
//   node monitoring/rehearsal/picture.mjs     about 7 minutes; writes monitoring/dashboard.svg
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { rows } from '../grafana/panels.mjs'
import { drawDashboard } from './drawing.mjs'
import { Load } from './load.mjs'
import { missingPrograms, Stack } from './stack.mjs'

const driftlock = createRequire(import.meta.url)('../../index.js')

/** Seconds, from the first sample on. */
const VIOLATED_FROM = 180
const END = 420

const missing = missingPrograms()
if (missing) {
  console.error(missing)
  process.exit(1)
}

const folder = mkdtempSync(join(tmpdir(), 'driftlock-picture-'))
const workspace = mkdtempSync(join(tmpdir(), 'driftlock-picture-'))
const load = new Load(driftlock, workspace)
const stack = new Stack(folder, workspace)
try {
  await load.initialize()
  await stack.start()
  const start = Date.now() / 1000
  const seconds = () => Date.now() / 1000 - start
  /** @type {import('../../index.js').WorkPhase[]} */
  const phases = ['SPEC', 'PLAN', 'IMPLEMENT', 'VERIFY', 'REVIEW']
  for (let turn = 0; seconds() < END; turn++) {
    await work(turn, phases, seconds() > VIOLATED_FROM)
    process.stdout.write(`\r${Math.round(seconds())} of ${END} s`)
    await sleep(Math.random() * 1000)
  }
  console.log()
  const now = Date.now() / 1000
  const data = []
  for (const { panels } of rows) {
    for (const panel of panels) data.push({ panel, series: await ask(panel, start, now) })
  }
  writeFileSync(
    join(import.meta.dirname, '../dashboard.svg'),
    drawDashboard(data, { violatedFrom: VIOLATED_FROM, end: END }),
  )
} finally {
  load.close()
  await stack.stop()
  rmSync(workspace, { recursive: true, force: true })
  rmSync(folder, { recursive: true, force: true })
}

/**
 * @param {number} turn
 * @param {import('../../index.js').WorkPhase[]} phases
 * @param {boolean} violating
 */
async function work(turn, phases, violating) {
  const phase = phases[turn % phases.length] ?? 'SPEC'
  await load.gates(4, violating && turn % 3 === 0 ? 1 : 0)
  await load.validations(6, violating && turn % 4 === 0 ? 1 : 0)
  // Held for a moment, so that a sample may see it.
  await load.leases(6, violating && turn % 2 === 0 ? 3 : turn % 20 === 0 ? 1 : 0, 100)
  await load.prompt(phase, violating ? turn % 10 === 3 : phase === 'SPEC' && turn % 3 === 0)
  await load.transition(phase)
  if (violating && turn % 40 === 0) await load.skip()
}

/**
 * @param {import('../grafana/panels.mjs').Panel} panel
 * @param {number} start
 * @param {number} end
 * @returns {Promise<import('./drawing.mjs').Series[]>}
 */
async function ask({ kind, queries }, start, end) {
  const found = []
  for (const { expr, legend = '' } of queries) {
    const expression = expr.replaceAll('$__rate_interval', '20s').replaceAll('$instance', '.*')
    // A number is that of the end.
    const results =
      kind === 'stat'
        ? (await stack.query(expression)).map(({ metric, value }) => ({ metric, values: [value] }))
        : await stack.queryRange(expression, { start, end, step: 2 })
    for (const { metric, values } of results) {
      const name = legend.replaceAll(/{{(\w+)}}/g, (_, label) => metric[label] ?? '')
      found.push({ name, points: values.map(([at, value]) => [at - start, Number(value)]) })
    }
  }
  return found
}
