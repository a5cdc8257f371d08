// Leases as rows of a table.

import { randomUUID } from 'node:crypto'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import Database from 'better-sqlite3'

interface Lease {
  lease_id: string
  task_id: string
  phase: string
  agent_id: string
  acquired_at: string
  expires_at: string
  renewed_count: number
}

interface LeaseOptions {
  leaseDuration?: number
  maxRenewals?: number
  agentId?: string
}

export class PhaseLeaseManager {
  private readonly db: Database.Database
  private readonly leaseDuration: number
  private readonly maxRenewals: number
  private readonly agentId: string

  constructor(
    workspaceRoot: string,
    { leaseDuration = 300, maxRenewals = 10, agentId = `${process.pid}-${randomUUID()}` }: LeaseOptions = {},
  ) {
    this.leaseDuration = leaseDuration
    this.maxRenewals = maxRenewals
    this.agentId = agentId
    mkdirSync(join(workspaceRoot, 'state'), { recursive: true })
    this.db = new Database(join(workspaceRoot, 'state', 'orchestrator.db'), { timeout: 5000 })
    this.db.pragma('journal_mode = WAL')
    this.db.pragma('synchronous = NORMAL')
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

  // biome-ignore lint/suspicious/useAwait: the interface answers by promises, the database at once
  async acquireLease(taskId: string, phase: string) {
    const now = Date.now()
    const lease: Lease = {
      lease_id: randomUUID(),
      task_id: taskId,
      phase,
      agent_id: this.agentId,
      acquired_at: new Date(now).toISOString(),
      expires_at: new Date(now + this.leaseDuration * 1000).toISOString(),
      renewed_count: 0,
    }
    try {
      this.db.prepare('DELETE FROM phase_leases WHERE expires_at < ?').run(lease.acquired_at)
      this.db
        .prepare(
          `INSERT INTO phase_leases (lease_id, task_id, phase, agent_id, acquired_at, expires_at, renewed_count)
           VALUES (@lease_id, @task_id, @phase, @agent_id, @acquired_at, @expires_at, @renewed_count)`,
        )
        .run(lease)
      return { acquired: true, lease }
    } catch (error) {
      const holder = this.getLease(taskId, phase)
      if (!holder || !(error as Error).message.includes('UNIQUE constraint failed')) {
        return { acquired: false, reason: `Internal error: ${(error as Error).message}` }
      }
      return {
        acquired: false,
        reason: 'Lease already held by another agent',
        holder: holder.agent_id,
        expiresIn: Math.max(0, Math.floor((Date.parse(holder.expires_at) - now) / 1000)),
      }
    }
  }

  // biome-ignore lint/suspicious/useAwait: as above
  async renewLease(taskId: string, phase: string) {
    const lease = this.getLease(taskId, phase)
    if (lease?.agent_id !== this.agentId) return { renewed: false, reason: 'Lease not held by this agent' }
    if (lease.renewed_count >= this.maxRenewals) {
      return { renewed: false, reason: `Max renewals (${this.maxRenewals}) exceeded` }
    }
    const expiresAt = new Date(Date.now() + this.leaseDuration * 1000).toISOString()
    this.db
      .prepare('UPDATE phase_leases SET expires_at = ?, renewed_count = renewed_count + 1 WHERE lease_id = ?')
      .run(expiresAt, lease.lease_id)
    return { renewed: true, expiresAt }
  }

  // biome-ignore lint/suspicious/useAwait: as above
  async releaseLease(taskId: string, phase: string) {
    const { changes } = this.db
      .prepare('DELETE FROM phase_leases WHERE task_id = ? AND phase = ? AND agent_id = ?')
      .run(taskId, phase, this.agentId)
    return changes > 0
  }

  holdsLease(taskId: string, phase: string): boolean {
    return this.getLease(taskId, phase)?.agent_id === this.agentId
  }

  getLease(taskId: string, phase: string): Lease | null {
    const query = this.db.prepare<[string, string], Lease>('SELECT * FROM phase_leases WHERE task_id = ? AND phase = ?')
    return query.get(taskId, phase) ?? null
  }

  close(): void {
    this.db.close()
  }
}
