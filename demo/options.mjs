// The command line.

import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

export const HELP = `Usage: npm run demo -- [options]

Several agent processes work one task list through nine phases, each competing for every phase of every task.
At the end an independent check reads the files and says whether each phase was done exactly once.

  --agents N               agent processes (default 4)
  --tasks FILE             JSON lines with taskId, title, requirements[], contextSummary (default demo/tasks.jsonl)
  --work MS                mean duration of the simulated work on a phase, in ms (default 5; may be 0, but
                           not with --kill)
  --drift N                change N prompts after their first attestation (default 0)
  --kill                   kill one agent while it holds a lease
  --lease-duration SECONDS how long a lease lasts (default 30; with --kill 2)
  --store URL              keep leases, prompts and ledger on a PostgreSQL server: postgres://user:password@host/database
                           (needs psql for the check); in a schema of its own, unless the URL names an unused one
  --namespaces A,B,…       with --store: start the agents in these network namespaces by turns, each with a folder of its
                           own, as if they were on so many machines (Linux, as root)
  --workspace DIR          work there instead of in a temporary folder; must hold no results of an earlier run
  --keep                   keep the temporary folder and schema, and say where the folder is
  --json FILE              write the report there as JSON too
  --help                   show this

Exit code: 0 if all is well, 1 if the check found a violation or an agent failed, 2 for wrong usage.
`

/** Mistakes of the person at the keyboard: exit code 2. */
export class UsageError extends Error {}

const DEFAULT_TASKS = fileURLToPath(new URL('./tasks.jsonl', import.meta.url))

/** @typedef {ReturnType<typeof readOptions>} Options */

/** @param {string[]} args */
export function readOptions(args) {
  const values = parse(args)
  const kill = values.kill ?? false
  const options = {
    agents: integer('agents', values.agents ?? '4', 1, 64),
    tasks: values.tasks ?? DEFAULT_TASKS,
    work: number('work', values.work ?? '5', 0, 3_600_000),
    drift: integer('drift', values.drift ?? '0', 0, Number.MAX_SAFE_INTEGER),
    kill,
    // Below a second a live agent on a busy machine could lose its own lease.
    leaseDuration: number('lease-duration', values['lease-duration'] ?? (kill ? '2' : '30'), 1, 86_400),
    store: values.store,
    namespaces: values.namespaces?.split(',') ?? [],
    workspace: values.workspace,
    keep: values.keep ?? false,
    json: values.json,
    help: values.help ?? false,
  }
  if (kill && options.agents < 2) throw new UsageError('--kill needs at least two agents: somebody has to take over')
  // Without work a lease is held for some 0.1 ms, too short to be sure of catching an agent with one.
  if (kill && options.work < 1) throw new UsageError('--kill needs a --work of at least 1 ms')
  if (options.namespaces.length > 0 && !options.store) throw new UsageError('--namespaces needs a --store')
  if (kill && process.platform === 'win32') throw new UsageError('--kill needs POSIX signals')
  return options
}

/** @param {string[]} args */
function parse(args) {
  try {
    return parseArgs({
      args,
      strict: true,
      options: {
        agents: { type: 'string' },
        tasks: { type: 'string' },
        work: { type: 'string' },
        drift: { type: 'string' },
        kill: { type: 'boolean' },
        'lease-duration': { type: 'string' },
        store: { type: 'string' },
        namespaces: { type: 'string' },
        workspace: { type: 'string' },
        keep: { type: 'boolean' },
        json: { type: 'string' },
        help: { type: 'boolean', short: 'h' },
      },
    }).values
  } catch (error) {
    throw new UsageError(/** @type {Error} */ (error).message)
  }
}

/**
 * @param {string} name
 * @param {string} text
 * @param {number} least
 * @param {number} most
 */
function number(name, text, least, most) {
  const value = text.trim() === '' ? NaN : Number(text)
  if (!(value >= least && value <= most)) {
    throw new UsageError(`--${name} must be a number from ${least} to ${most}, not '${text}'`)
  }
  return value
}

/** @type {typeof number} */
function integer(name, text, least, most) {
  const value = number(name, text, least, most)
  if (!Number.isInteger(value)) throw new UsageError(`--${name} must be a whole number, not '${text}'`)
  return value
}
