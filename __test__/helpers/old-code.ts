import { randomUUID } from 'node:crypto'
import { cpSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { onTestFinished } from 'vitest'
import { databasePath, type Json, makeWorkspace } from './workspace.js'

/** A copy of the workspace that the old code left; its left-over lock file is as fresh as can be. */
export function oldWorkspace(): string {
  const root = makeWorkspace()
  cpSync(join(__dirname, '..', 'fixtures', 'old-workspace'), root, { recursive: true })
  const lock = join(root, 'state', 'left-over.lock')
  const content = JSON.parse(readFileSync(lock, 'utf8')) as Json
  writeFileSync(lock, JSON.stringify({ ...content, acquiredAt: new Date().toISOString() }))
  return root
}

/** What a process with the old code does to the lease table, statement by statement. */
export class OldLeases {
  private readonly db: Database.Database

  constructor(
    root: string,
    private readonly agentId: string,
    private readonly duration = 300,
  ) {
    this.db = new Database(databasePath(root), { timeout: 5000 })
    onTestFinished(() => {
      this.db.close()
    })
    this.db.pragma('journal_mode = WAL')
    this.db.exec(`
      CREATE TABLE IF NOT EXISTS phase_leases (
        lease_id TEXT PRIMARY KEY,
        task_id TEXT NOT NULL,
        phase TEXT NOT NULL,
        agent_id TEXT NOT NULL,
        acquired_at TEXT NOT NULL,
        expires_at TEXT NOT NULL,
        renewed_count INTEGER NOT NULL DEFAULT 0,
        UNIQUE(task_id, phase)
      );
      CREATE INDEX IF NOT EXISTS idx_phase_leases_expires_at ON phase_leases(expires_at);`)
  }

  acquire(taskId: string, phase: string): { acquired: boolean; holder?: string } {
    const now = Date.now()
    this.db.prepare('DELETE FROM phase_leases WHERE expires_at < ?').run(new Date(now).toISOString())
    try {
      this.db
        .prepare(
          `INSERT INTO phase_leases (lease_id, task_id, phase, agent_id, acquired_at, expires_at, renewed_count)
           VALUES (?, ?, ?, ?, ?, ?, ?)`,
        )
        .run(randomUUID(), taskId, phase, this.agentId, iso(now), iso(now + this.duration * 1000), 0)
      return { acquired: true }
    } catch (error) {
      if (!(error as Error).message.includes('UNIQUE constraint failed')) throw error
      return { acquired: false, holder: this.get(taskId, phase)?.agent_id as string }
    }
  }

  renew(taskId: string, phase: string): boolean {
    const row = this.get(taskId, phase)
    if (row?.agent_id !== this.agentId) return false
    this.db
      .prepare('UPDATE phase_leases SET expires_at = ?, renewed_count = renewed_count + 1 WHERE lease_id = ?')
      .run(iso(Date.now() + this.duration * 1000), row.lease_id)
    return true
  }

  release(taskId: string, phase: string): boolean {
    return (
      this.db
        .prepare('DELETE FROM phase_leases WHERE task_id = ? AND phase = ? AND agent_id = ?')
        .run(taskId, phase, this.agentId).changes > 0
    )
  }

  get(taskId: string, phase: string): Json {
    return this.db.prepare('SELECT * FROM phase_leases WHERE task_id = ? AND phase = ?').get(taskId, phase)
  }
}

const iso = (ms: number): string => new Date(ms).toISOString()
