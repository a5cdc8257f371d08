// The command line.

import { parseArgs } from 'node:util'

export const HELP = `Usage: npm run bench -- [options]

Measures the package beside a plain TypeScript version of the same calls, proper-lockfile, and what SQLite and the file
system cost by themselves; then checks the levels that it is held to. Takes some ten minutes.

  --only NAME   only steps whose names contain this, such as 'lease' or 'growth at 1000000'; may be repeated
  --quick       a tenth of the iterations, and up to 10,000 records: shows that all works; judges nothing
  --json FILE   write what was found there as JSON
  --chart FILE  draw latency against size there, as SVG
  --list        list the steps
  --help        show this

Temporary files, some 2 GB, go below DRIFTLOCK_BENCH_FOLDER, or the system's folder for them.
Exit code: 0 if all levels that were measured hold, 1 if not, 2 for wrong usage.
`

/** Mistakes of the person at the keyboard: exit code 2. */
export class UsageError extends Error {}

/** @param {string[]} args */
export function readOptions(args) {
  try {
    const { values } = parseArgs({
      args,
      strict: true,
      options: {
        only: { type: 'string', multiple: true, default: [] },
        quick: { type: 'boolean', default: false },
        json: { type: 'string' },
        chart: { type: 'string' },
        list: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    })
    return values
  } catch (error) {
    throw new UsageError(/** @type {Error} */ (error).message)
  }
}
