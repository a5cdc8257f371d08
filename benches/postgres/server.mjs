// A PostgreSQL server with its default settings, in a temporary folder, and what can be asked of it.

import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { chownSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fail, postgresPrograms } from '../../scripts/lib.mjs'

/** More than the 64 agents, 64 of pgbench and those who look. */
const SETTINGS = ['max_connections=200']

/** The server refuses to run as root. */
const owner = process.getuid?.() === 0 ? { uid: idOf('-u'), gid: idOf('-g') } : {}

/** @param {string} flag */
function idOf(flag) {
  return Number(execFileSync('id', [flag, 'postgres'], { encoding: 'utf8' }))
}

export class Server {
  /** Starts one. */
  static async start() {
    const bin = postgresPrograms()
    if (!bin) fail('PostgreSQL was not found. Install it (Debian: postgresql), then try again.')
    const folder = mkdtempSync(join(process.env.DRIFTLOCK_BENCH_FOLDER ?? tmpdir(), 'driftlock-bench-postgres-'))
    if (owner.uid !== undefined && owner.gid !== undefined) chownSync(folder, owner.uid, owner.gid)
    const server = new Server(bin, folder, await freePort())
    await server.#start()
    return server
  }

  /** @type {import('node:child_process').ChildProcess | undefined} */
  #process

  /**
   * @param {string} bin
   * @param {string} folder
   * @param {number} port
   */
  constructor(bin, folder, port) {
    this.bin = bin
    this.folder = folder
    this.port = port
  }

  async #start() {
    const data = join(this.folder, 'data')
    const initdb = ['-D', data, '--username=postgres', '--auth=trust', '--encoding=UTF8', '--no-locale']
    execFileSync(join(this.bin, 'initdb'), initdb, { ...owner, cwd: this.folder, stdio: 'ignore' })
    const options = [
      `port=${this.port}`,
      'listen_addresses=127.0.0.1',
      `unix_socket_directories=${this.folder}`,
      ...SETTINGS,
    ]
    this.#process = spawn(join(this.bin, 'postgres'), ['-D', data, ...options.flatMap((option) => ['-c', option])], {
      ...owner,
      cwd: this.folder,
      stdio: 'ignore',
    })
    for (
      let tries = 0;
      spawnSync(join(this.bin, 'pg_isready'), ['-h', '127.0.0.1', '-p', `${this.port}`]).status !== 0;
    ) {
      if (++tries > 200) throw new Error('the server does not start')
      await sleep(50)
    }
  }

  /** @param {string} schema */
  url(schema) {
    return `postgres://postgres@127.0.0.1:${this.port}/postgres?sslmode=disable&schema=${schema}`
  }

  /**
   * Runs statements; what the last one says, as text.
   * @param {string} sql
   */
  execute(sql) {
    const args = [
      '-h',
      '127.0.0.1',
      '-p',
      `${this.port}`,
      '-U',
      'postgres',
      '-AtqX',
      '-v',
      'ON_ERROR_STOP=1',
      '-c',
      sql,
    ]
    const env = { ...process.env, PGOPTIONS: '-c client_min_messages=warning' }
    return execFileSync(join(this.bin, 'psql'), args, { encoding: 'utf8', env }).trim()
  }

  /** How many transactions there were, and how much time of the processor and of the log was used. */
  use() {
    const [transactions, wal] = this.execute(
      "SELECT xact_commit + xact_rollback, pg_current_wal_lsn() - '0/0' FROM pg_stat_database WHERE datname = 'postgres'",
    ).split('|')
    return { transactions: Number(transactions), walBytes: Number(wal), cpuMs: this.#cpuMs() }
  }

  /** Of all its processes, those included that have ended. */
  #cpuMs() {
    const own = this.#process?.pid
    let ticks = 0
    for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
      try {
        // The name may have blanks and brackets in it.
        const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
          .replace(/^.*\) /s, '')
          .split(' ')
          .map(Number)
        const [parent, user, system, childrenUser, childrenSystem] = [1, 11, 12, 13, 14].map(
          (field) => fields[field] ?? 0,
        )
        if (Number(pid) === own) ticks += user + system + childrenUser + childrenSystem
        else if (parent === own) ticks += user + system
      } catch {
        // It has ended meanwhile.
      }
    }
    return ticks * 10
  }

  async stop() {
    const child = this.#process
    if (child && child.exitCode === null) {
      const ended = new Promise((resolve) => child.once('exit', resolve))
      child.kill('SIGINT')
      await ended
    }
    rmSync(this.folder, { recursive: true, force: true })
  }
}

/** @returns {Promise<number>} */
function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer().on('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const { port } = /** @type {import('node:net').AddressInfo} */ (server.address())
      server.close(() => resolve(port))
    })
  })
}
