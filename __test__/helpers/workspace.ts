import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { onTestFinished } from 'vitest'
import { PhaseLeaseManager } from '../../index.js'

/** An empty folder that goes away with the test. */
export function makeWorkspace(): string {
  const root = mkdtempSync(join(tmpdir(), 'driftlock-test-'))
  onTestFinished(() => rmSync(root, { recursive: true, force: true, maxRetries: 3 }))
  return root
}

/** A lease manager that is closed at the end of the test. */
export function openLeases(
  root: string,
  options?: ConstructorParameters<typeof PhaseLeaseManager>[1],
): PhaseLeaseManager {
  const manager = new PhaseLeaseManager(root, options)
  onTestFinished(() => {
    manager.close()
  })
  return manager
}

/** The database as the rest of the orchestrator opens it. */
export function openDatabase(root: string): Database.Database {
  const db = new Database(databasePath(root), { timeout: 5000 })
  onTestFinished(() => {
    db.close()
  })
  return db
}

export const databasePath = (root: string): string => join(root, 'state', 'orchestrator.db')
export const processPath = (root: string, name = ''): string => join(root, 'state', 'process', name)
export const attestationsPath = (root: string): string => processPath(root, 'prompt_attestations.jsonl')
export const baselinesPath = (root: string): string => processPath(root, 'prompt_baselines.json')
export const updatesPath = (root: string): string => processPath(root, 'prompt_baseline_updates.jsonl')
export const ledgerPath = (root: string): string => processPath(root, 'ledger.jsonl')

// biome-ignore lint/suspicious/noExplicitAny: whatever a file of the workspace says
export type Json = any

/** Every line of a JSONL file, parsed; fails if one of them isn't complete. */
export function readLines(path: string): Json[] {
  const text = readFileSync(path, 'utf8')
  if (text === '') return []
  if (!text.endsWith('\n')) throw new Error(`the last line of ${path} is not complete`)
  return text
    .slice(0, -1)
    .split('\n')
    .map((line) => JSON.parse(line) as Json)
}

export const readBaselines = (root: string): Record<string, Json> =>
  JSON.parse(readFileSync(baselinesPath(root), 'utf8')) as Record<string, Json>

/** Each file below `root` with its size and time of change. */
export function snapshot(root: string): Record<string, string> {
  const found: Record<string, string> = {}
  if (!existsSync(root)) return found
  for (const entry of readdirSync(root, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath ?? entry.path, entry.name)
    const { size, mtimeNs } = statSync(path, { bigint: true })
    found[path.slice(root.length)] = entry.isDirectory() ? 'directory' : `${size} ${mtimeNs}`
  }
  return found
}
