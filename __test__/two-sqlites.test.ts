// The rest of the orchestrator opens the same database with better-sqlite3, another copy of SQLite, in this very process.
// POSIX locks belong to the process and go when any descriptor of the file is closed: neither copy may cost the other its own.
import { existsSync, mkdirSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { describe, expect, test } from 'vitest'
import { Peer } from './helpers/peer.js'
import { HELD } from './helpers/shapes.js'
import { until } from './helpers/wait.js'
import { databasePath, makeWorkspace, openDatabase, openLeases } from './helpers/workspace.js'

/** Opens, reads and closes the database as the orchestrator does now and then. */
function visit(root: string): void {
  const db = new Database(databasePath(root))
  db.prepare('SELECT count(*) FROM phase_leases').get()
  db.close()
}

describe('better-sqlite3 comes and goes while leases live', () => {
  test('another process doesn’t take itself for the last one and remove the log under us', async () => {
    const root = makeWorkspace()
    const manager = openLeases(root, { agentId: 'here' })
    await manager.acquireLease('BEFORE', 'SPEC')
    const wal = `${databasePath(root)}-wal`
    const inode = statSync(wal).ino
    const peer = await Peer.start()
    for (let i = 0; i < 10; i++) {
      visit(root)
      await peer.run(({ Database }, path: string) => {
        const db = new Database(path)
        db.exec('CREATE TABLE IF NOT EXISTS visits (at TEXT); INSERT INTO visits VALUES (1)')
        db.close()
      }, databasePath(root))
      expect(existsSync(wal) && statSync(wal).ino).toBe(inode)
      expect((await manager.acquireLease(`T${i}`, 'SPEC')).acquired).toBe(true)
      const refused = await peer.run(
        async ({ driftlock }, { root, task }) => {
          const other = new driftlock.PhaseLeaseManager(root, { agentId: 'there' })
          const result = await other.acquireLease(task, 'SPEC')
          other.close()
          return result
        },
        { root, task: `T${i}` },
      )
      expect(refused).toMatchObject({ acquired: false, reason: HELD, holder: 'here' })
    }
    const db = openDatabase(root)
    expect(db.prepare('SELECT count(*) FROM visits').pluck().get()).toBe(10)
    expect(db.pragma('integrity_check', { simple: true })).toBe('ok')
  })

  test('under constant visits no lease has two holders', async () => {
    const root = makeWorkspace()
    const manager = openLeases(root, { agentId: 'here' })
    const peers = await Peer.startMany(2)
    const running = peers.map((peer) =>
      peer.run(
        async ({ driftlock, Database }, { root, path }) => {
          const won: string[] = []
          for (let i = 0; i < 150; i++) {
            const manager = new driftlock.PhaseLeaseManager(root, { agentId: `there-${process.pid}` })
            if ((await manager.acquireLease(`T${i}`, 'SPEC')).acquired) won.push(`T${i}`)
            manager.close()
            new Database(path).close()
          }
          return won
        },
        { root, path: databasePath(root) },
      ),
    )
    const won: string[] = []
    for (let i = 149; i >= 0; i--) {
      visit(root)
      if ((await manager.acquireLease(`T${i}`, 'SPEC')).acquired) won.push(`T${i}`)
      visit(root)
    }
    const all = [won, ...(await Promise.all(running))].flat()
    expect(all).toHaveLength(150)
    expect(new Set(all).size).toBe(150)
    expect(openDatabase(root).pragma('integrity_check', { simple: true })).toBe('ok')
  })
})

describe('our manager comes and goes while better-sqlite3 is in the middle of a transaction', () => {
  test('its write lock survives, and what it commits is there', async () => {
    const root = makeWorkspace()
    openLeases(root).close()
    const peer = await Peer.start()
    const db = openDatabase(root)
    db.exec('CREATE TABLE notes (text TEXT)')
    for (let round = 0; round < 5; round++) {
      db.exec('BEGIN IMMEDIATE')
      db.prepare('INSERT INTO notes VALUES (?)').run(`note ${round}`)
      const visitor = openLeases(root, { agentId: 'visitor' })
      expect(visitor.getLease('T', 'SPEC')).toBeNull()
      visitor.close()
      const attempt = await peer.run(({ Database }, path: string) => {
        const db = new Database(path, { timeout: 0 })
        try {
          db.exec('BEGIN IMMEDIATE; ROLLBACK')
          return 'got the lock'
        } catch (error) {
          return (error as { code: string }).code
        } finally {
          db.close()
        }
      }, databasePath(root))
      expect(attempt).toBe('SQLITE_BUSY')
      db.exec('COMMIT')
    }
    const seen = await peer.run(({ Database }, path: string) => {
      const db = new Database(path)
      const rows = db.prepare('SELECT text FROM notes ORDER BY rowid').pluck().all()
      db.close()
      return rows
    }, databasePath(root))
    expect(seen).toEqual(['note 0', 'note 1', 'note 2', 'note 3', 'note 4'])
    expect(db.pragma('integrity_check', { simple: true })).toBe('ok')
  })

  test('our calls wait for it without stopping it', async () => {
    const root = makeWorkspace()
    const manager = openLeases(root)
    const db = openDatabase(root)
    db.exec('CREATE TABLE notes (text TEXT); BEGIN IMMEDIATE')
    let answered = false
    const asked = manager.acquireLease('T', 'SPEC').then((result) => {
      answered = true
      return result
    })
    for (let i = 0; i < 20; i++) {
      db.prepare('INSERT INTO notes VALUES (?)').run(`note ${i}`)
      await new Promise((resolve) => setTimeout(resolve, 5))
      expect(answered).toBe(false)
    }
    db.exec('COMMIT')
    expect((await asked).acquired).toBe(true)
    expect(db.prepare('SELECT count(*) FROM notes').pluck().get()).toBe(20)
  })

  test('it reads a consistent past while we write', async () => {
    const root = makeWorkspace()
    const manager = openLeases(root)
    await manager.acquireLease('T', 'SPEC')
    const db = openDatabase(root)
    const count = db.prepare('SELECT count(*) FROM phase_leases').pluck()
    db.exec('BEGIN')
    expect(count.get()).toBe(1)
    await Promise.all(Array.from({ length: 100 }, (_, i) => manager.acquireLease(`T${i}`, 'SPEC')))
    openLeases(root).close()
    expect(count.get()).toBe(1)
    db.exec('COMMIT')
    expect(count.get()).toBe(101)
  })
})

describe('the file belongs to all of the orchestrator', () => {
  test('stays WAL, has no user_version of ours, and keeps what is not ours as it was', async () => {
    const root = makeWorkspace()
    openLeases(root).close()
    const db = openDatabase(root)
    db.exec(`
      CREATE TABLE tasks (id INTEGER PRIMARY KEY, title TEXT);
      CREATE INDEX idx_tasks ON tasks(title);
      CREATE TRIGGER trg_tasks AFTER INSERT ON tasks BEGIN UPDATE tasks SET title = title WHERE id = NEW.id; END;
      CREATE VIEW open_tasks AS SELECT * FROM tasks;
      INSERT INTO tasks (title) VALUES ('one'), ('two');
    `)
    const theirs = "SELECT type, name, sql FROM sqlite_master WHERE tbl_name IN ('tasks', 'open_tasks') ORDER BY name"
    const before = db.prepare(theirs).all()
    db.pragma('user_version = 7')
    const manager = openLeases(root, { leaseDuration: 0.05 })
    await manager.acquireLease('T', 'SPEC')
    await manager.renewLease('T', 'SPEC')
    await until(() => !manager.holdsLease('T', 'SPEC'), 'it expires')
    await manager.releaseAllLeases()
    manager.close()
    expect(db.prepare(theirs).all()).toEqual(before)
    expect(db.prepare('SELECT * FROM tasks').all()).toEqual([
      { id: 1, title: 'one' },
      { id: 2, title: 'two' },
    ])
    expect(db.pragma('user_version', { simple: true })).toBe(7)
    expect(db.pragma('journal_mode', { simple: true })).toBe('wal')
    expect(db.pragma('integrity_check', { simple: true })).toBe('ok')
  })

  test('a database that better-sqlite3 made first, in rollback mode, is taken over', async () => {
    const root = makeWorkspace()
    mkdirSync(join(root, 'state'))
    const db = openDatabase(root)
    db.exec("CREATE TABLE tasks (id TEXT); INSERT INTO tasks VALUES ('x')")
    db.close()
    const manager = openLeases(root)
    expect((await manager.acquireLease('T', 'SPEC')).acquired).toBe(true)
    const again = openDatabase(root)
    expect(again.pragma('journal_mode', { simple: true })).toBe('wal')
    expect(again.prepare('SELECT id FROM tasks').pluck().all()).toEqual(['x'])
  })

  test('the database file may be removed and made anew between two managers', async () => {
    const root = makeWorkspace()
    for (let round = 0; round < 3; round++) {
      const manager = openLeases(root, { agentId: `agent-${round}` })
      expect((await manager.acquireLease('T', 'SPEC')).acquired).toBe(true)
      manager.close()
      rmSync(join(root, 'state'), { recursive: true })
    }
  })
})
