// A file of JSON lines, each with the hash of the one before it.

import { createHash, randomUUID } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { appendFile, mkdir, readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'

interface LedgerEntry {
  entry_id: string
  timestamp: string
  previous_hash: string
  entry_hash: string
  task_id: string
  from_phase: string | null
  to_phase: string
  evidence_artifacts: string[]
  evidence_validated: boolean
  agent_type?: string
  duration_ms?: number
}

export class PhaseLedger {
  private readonly path: string
  /** Of the entry that this instance wrote last; looked up before its first. */
  private lastHash: string | undefined

  constructor(workspaceRoot: string) {
    this.path = join(workspaceRoot, 'state', 'process', 'ledger.jsonl')
  }

  async initialize(): Promise<void> {
    await mkdir(dirname(this.path), { recursive: true })
    this.lastHash = (await this.entries()).at(-1)?.entry_hash ?? 'genesis'
  }

  async appendTransition(
    taskId: string,
    fromPhase: string | null,
    toPhase: string,
    evidenceArtifacts: string[],
    evidenceValidated: boolean,
    { agentType, durationMs }: { agentType?: string; durationMs?: number } = {},
  ): Promise<LedgerEntry> {
    const head = {
      entry_id: randomUUID(),
      timestamp: new Date().toISOString(),
      previous_hash: this.lastHash ?? 'genesis',
    }
    const body = {
      task_id: taskId,
      from_phase: fromPhase,
      to_phase: toPhase,
      evidence_artifacts: evidenceArtifacts,
      evidence_validated: evidenceValidated,
      agent_type: agentType,
      duration_ms: durationMs,
    }
    const entry = { ...head, entry_hash: hash({ ...head, ...body }), ...body }
    await appendFile(this.path, `${JSON.stringify(entry)}\n`)
    this.lastHash = entry.entry_hash
    return entry
  }

  async verify() {
    let expected = 'genesis'
    let checked = 0
    const tampered: string[] = []
    try {
      for await (const line of createInterface({ input: createReadStream(this.path), crlfDelay: Infinity })) {
        const { entry_hash, ...hashed } = JSON.parse(line) as LedgerEntry
        checked += 1
        if (hashed.previous_hash !== expected) {
          return { valid: false, entries_checked: checked, broken_chain_at: checked - 1 }
        }
        if (hash(hashed) !== entry_hash) tampered.push(hashed.entry_id)
        expected = entry_hash
      }
    } catch (error) {
      return { valid: false, entries_checked: 0, error: (error as Error).message }
    }
    return { valid: tampered.length === 0, entries_checked: checked, tampered_entries: tampered }
  }

  async getTaskHistory(taskId: string): Promise<LedgerEntry[]> {
    return (await this.entries()).filter((entry) => entry.task_id === taskId)
  }

  async getStats() {
    const entries = await this.entries()
    return {
      totalEntries: entries.length,
      uniqueTasks: new Set(entries.map((entry) => entry.task_id)).size,
      oldestEntry: entries[0]?.timestamp,
      newestEntry: entries.at(-1)?.timestamp,
      lastHash: entries.at(-1)?.entry_hash ?? 'genesis',
    }
  }

  private async entries(): Promise<LedgerEntry[]> {
    const content = await readFile(this.path, 'utf8').catch(() => '')
    return content
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as LedgerEntry)
  }
}

function hash(value: object): string {
  return createHash('sha256').update(JSON.stringify(value)).digest('hex')
}
