// The least that leases cost in SQLite: the rows that the contract wants in a table of their own, by prepared
// statements of better-sqlite3. Nothing around them: no answer but the number of rows, no token, no statistics.

import { randomUUID } from 'node:crypto'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import Database from 'better-sqlite3'

const PHASE = 'PLAN'
const DURATION = 300_000

/** @param {string} folder */
export function openRaw(folder) {
  mkdirSync(join(folder, 'state'), { recursive: true })
  const database = new Database(join(folder, 'state', 'orchestrator.db'), { timeout: 5000 })
  database.pragma('journal_mode = WAL')
  database.pragma('synchronous = NORMAL')
  database.exec(`CREATE TABLE IF NOT EXISTS leases (task_id TEXT, phase TEXT, lease_id TEXT, agent_id TEXT, acquired_at TEXT,
    expires_at TEXT, renewed_count INTEGER, PRIMARY KEY (task_id, phase)) WITHOUT ROWID`)
  const inserting = database.prepare('INSERT OR IGNORE INTO leases VALUES (?, ?, ?, ?, ?, ?, 0)')
  const deleting = database.prepare('DELETE FROM leases WHERE task_id = ? AND phase = ?')
  const agent = `${process.pid}`
  return {
    insert(/** @type {string} */ task) {
      const now = Date.now()
      const [acquired, expires] = [new Date(now), new Date(now + DURATION)].map((time) => time.toISOString())
      return inserting.run(task, PHASE, randomUUID(), agent, acquired, expires).changes
    },
    delete: (/** @type {string} */ task) => deleting.run(task, PHASE).changes,
    close: () => database.close(),
  }
}
