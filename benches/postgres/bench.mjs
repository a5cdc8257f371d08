// `npm run bench:postgres`: what calls cost on PostgreSQL, beside plain statements.

import { writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { parseArgs } from 'node:util'
import { needRust } from '../../scripts/lib.mjs'
import { showProgress } from '../progress.mjs'
import { buildAgents } from './agents.mjs'
import { Results } from './results.mjs'
import { Server } from './server.mjs'
import { attestationsGrow, leasesGrow, operations, waiters } from './suites.mjs'

const HELP = `Usage: npm run bench:postgres -- [options]

Starts a PostgreSQL server of its own, with its default settings, and measures calls of the core on it: by one agent and
by 64, beside the same rows written by plain statements that pgbench sends; among 1,000 who wait; and as tables grow.
Takes some 5 minutes.

  --only NAME   only one of operations, waiters, leases-grow, attestations-grow; may be repeated
  --short       a second for each, on small tables: shows that all works
  --large       10,000,000 attestations too: some minutes and 6 GB more
  --json FILE   write what was found there as JSON
  --help        show this

Temporary files go below DRIFTLOCK_BENCH_FOLDER, or the system's folder for them: figures are those of its disk.
Exit code: 0 if calls take at most 1.5 times as long as plain statements (not judged with --short), 1 if not, 2 for wrong
usage.
`

const OPTIONS = /** @type {const} */ ({
  only: { type: 'string', multiple: true, default: [] },
  short: { type: 'boolean', default: false },
  large: { type: 'boolean', default: false },
  json: { type: 'string' },
  help: { type: 'boolean', short: 'h', default: false },
})

function readOptions() {
  try {
    return parseArgs({ strict: true, options: OPTIONS }).values
  } catch (error) {
    console.error(`${/** @type {Error} */ (error).message}\n\n${HELP}`)
    process.exit(2)
  }
}

const { only, short: isShort, large: isLarge, json, help } = readOptions()
if (help) {
  console.log(HELP)
  process.exit()
}
/** @type {[string, (bench: import('./suites.mjs').Bench) => Promise<void>][]} */
const steps = [
  ['operations', operations],
  ['waiters', waiters],
  ['leases-grow', leasesGrow],
  ['attestations-grow', (bench) => attestationsGrow(bench, isLarge)],
]
const chosen = steps.filter(([name]) => only.length === 0 || only.includes(name))
if (chosen.length === 0) {
  console.error(`nothing is called ${only.join(' or ')}\n\n${HELP}`)
  process.exit(2)
}
needRust()
const program = buildAgents()
const server = await Server.start()
const results = new Results()
try {
  const progress = showProgress(chosen.length)
  for (const [name, run] of chosen) {
    progress.begin(name)
    await run({ server, program, isShort, results })
  }
  progress.end()
  results.print()
  const machine = { cores: cpus().length, model: cpus()[0]?.model, postgres: server.execute('SHOW server_version') }
  if (json) writeFileSync(json, `${JSON.stringify({ machine, isShort, ...results }, null, 2)}\n`)
} finally {
  await server.stop()
}
process.exitCode = isShort || results.areWithinLevel ? 0 : 1
