// Temporary folders, and workspaces with a history of any size, written directly.

import { randomUUID } from 'node:crypto'
import {
  closeSync,
  copyFileSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'better-sqlite3'

const { entryHash, promptHash } = createRequire(import.meta.url)('../__test__/helpers/reference.cjs')

/** Records, baselines and entries of one task. */
export const PER_TASK = 10
export const PHASES = /** @type {const} */ ([
  'STRATEGIZE',
  'SPEC',
  'PLAN',
  'AFP_ALIGNMENT',
  'THINK',
  'IMPLEMENT',
  'VERIFY',
  'REVIEW',
  'PR',
  'MONITOR',
])

const FILES = ['prompt_attestations.jsonl', 'prompt_baselines.json', 'prompt_baseline_updates.jsonl', 'ledger.jsonl']

/** @type {Set<string>} */
const folders = new Set()
process.on('exit', removeAll)
// Gigabytes are not to stay behind when somebody interrupts the run.
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(130))

/** An empty folder, below `DRIFTLOCK_BENCH_FOLDER` or the system's folder for temporary files. */
export function makeFolder() {
  const folder = mkdtempSync(join(process.env.DRIFTLOCK_BENCH_FOLDER ?? tmpdir(), 'driftlock-bench-'))
  folders.add(folder)
  return folder
}

/** @param {string} folder */
export function remove(folder) {
  rmSync(folder, { recursive: true, force: true, maxRetries: 3 })
  folders.delete(folder)
}

export function removeAll() {
  for (const folder of folders) remove(folder)
}

/** @param {number} number */
export const taskOf = (number) => `TASK-${Math.floor(number / PER_TASK)}`
/** @param {number} number */
export const phaseOf = (number) => PHASES[number % PER_TASK] ?? 'SPEC'

/**
 * The prompt of the record with this number.
 * @param {number} number
 */
export function promptOf(number) {
  return {
    phase: phaseOf(number),
    taskId: taskOf(number),
    timestamp: '2026-01-01T00:00:00.000Z',
    requirements: ['parse dates', 'keep time zones', `reject nonsense ${number}`],
    qualityGates: ['tests', 'lint'],
    artifacts: ['src/dates.ts', 'src/zones.ts'],
    contextSummary: 'Dates are read as text, and the zone is lost. They should be kept as the moment and the zone.',
    agentType: 'worker',
    modelVersion: 'model-1',
  }
}

/**
 * A workspace with so many records, baselines and ledger entries.
 * @param {number} size
 */
export function prepareWorkspace(size) {
  const folder = makeFolder()
  const path = join(folder, 'state', 'process')
  mkdirSync(path, { recursive: true })
  const [log, baselines, updates, ledger] = FILES.map((name) => new Writer(join(path, name)))
  let previous = 'genesis'
  for (let number = 0; number < size; number++) {
    const hash = promptHash(promptOf(number))
    log?.add(`${JSON.stringify(recordOf(number, hash))}\n`)
    baselines?.add(
      `${number ? ',' : '{'}\n  ${JSON.stringify(`${taskOf(number)}:${phaseOf(number)}`)}: ${baselineOf(hash)}`,
    )
    const entry = entryOf(number, previous)
    ledger?.add(`${JSON.stringify(entry)}\n`)
    previous = entry.entry_hash
  }
  baselines?.add(size ? '\n}' : '{}')
  for (const writer of [log, baselines, updates, ledger]) writer?.close()
  return folder
}

/**
 * @param {string} original
 */
export function copyWorkspace(original) {
  const folder = makeFolder()
  mkdirSync(join(folder, 'state', 'process'), { recursive: true })
  for (const name of FILES) {
    const path = join('state', 'process', name)
    if (existsSync(join(original, path))) copyFileSync(join(original, path), join(folder, path))
  }
  return folder
}

/**
 * Leases of somebody else, in a database that a candidate has made, unless they are there.
 * @param {string} folder
 * @param {number} count
 */
export function addLeases(folder, count) {
  const database = new Database(join(folder, 'state', 'orchestrator.db'), { timeout: 5000 })
  const known = database.prepare('SELECT count(*) FROM phase_leases').pluck().get()
  if (Number(known) >= count) return database.close()
  const insert = database.prepare(
    `INSERT INTO phase_leases (lease_id, task_id, phase, agent_id, acquired_at, expires_at, renewed_count)
     VALUES (?, ?, ?, 'somebody', '2026-01-01T00:00:00.000Z', '2099-01-01T00:00:00.000Z', 0)`,
  )
  database.transaction(() => {
    for (let i = 0; i < count; i++) insert.run(randomUUID(), `OTHER-${i}`, 'PLAN')
  })()
  database.pragma('wal_checkpoint(TRUNCATE)')
  return database.close()
}

/**
 * @param {number} number
 * @param {string} hash
 */
function recordOf(number, hash) {
  return {
    attestation_id: randomUUID(),
    task_id: taskOf(number),
    phase: phaseOf(number),
    prompt_hash: hash,
    drift_detected: false,
    timestamp: '2026-01-01T00:00:00.000Z',
    persona_drift: false,
    agent_type: 'worker',
    prompt_version: 'model-1',
    severity: 'none',
    baseline_version: 1,
  }
}

/** @param {string} hash */
function baselineOf(hash) {
  return JSON.stringify({ hash, version: 1, updatedAt: '2026-01-01T00:00:00.000Z' })
}

/**
 * @param {number} number
 * @param {string} previous
 */
function entryOf(number, previous) {
  const head = { entry_id: randomUUID(), timestamp: '2026-01-01T00:00:00.000Z', previous_hash: previous }
  const body = {
    task_id: taskOf(number),
    from_phase: number % PER_TASK ? phaseOf(number - 1) : null,
    to_phase: phaseOf(number),
    evidence_artifacts: ['src/dates.ts'],
    evidence_validated: true,
    agent_type: 'worker',
    duration_ms: 1234,
  }
  return { ...head, entry_hash: entryHash({ ...head, ...body }), ...body }
}

/** Writes in large pieces, and waits for the disk at the end: its work is not to fall into what is measured. */
class Writer {
  /** @type {string[]} */
  #pending = []
  #length = 0
  #file

  /** @param {string} path */
  constructor(path) {
    this.#file = openSync(path, 'w')
  }

  /** @param {string} text */
  add(text) {
    this.#pending.push(text)
    this.#length += text.length
    if (this.#length > 1 << 22) this.#flush()
  }

  close() {
    this.#flush()
    fsyncSync(this.#file)
    closeSync(this.#file)
  }

  #flush() {
    writeFileSync(this.#file, this.#pending.join(''))
    this.#pending = []
    this.#length = 0
  }
}
