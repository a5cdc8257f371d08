// A PostgreSQL server for tests, in a temporary folder, that ends with the process that has started it.

import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process'
import { chmodSync, chownSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { postgresPrograms } from '../../scripts/lib.mjs'

/** The superuser's password, which must not show up anywhere. */
export const PASSWORD = 's3cret'
const START_MS = 20_000

/** Where the server's programs are. If they are nowhere, says so, and fails where they have to be. */
export function whereIsPostgres(): string | undefined {
  const found = postgresPrograms()
  if (found) return found
  if (process.env.DRIFTLOCK_TEST_POSTGRES_REQUIRED) throw new Error('PostgreSQL is not installed')
  process.stderr.write('NOT RUN on PostgreSQL: it is not installed (Debian: postgresql)\n')
  return undefined
}

/** PostgreSQL and PgBouncer refuse to run as root: what makes them run as somebody else then. */
function unprivileged(): { uid?: number; gid?: number } {
  if (process.getuid?.() !== 0) return {}
  const id = (flag: string) => Number(execFileSync('id', [flag, 'postgres'], { encoding: 'utf8' }))
  return { uid: id('-u'), gid: id('-g') }
}

/** A folder that belongs to whom the server runs as. */
function makeFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'driftlock-postgres-'))
  give(folder)
  return folder
}

function give(path: string): void {
  const { uid, gid } = unprivileged()
  if (uid !== undefined && gid !== undefined) chownSync(path, uid, gid)
}

export const freePort = (): Promise<number> =>
  new Promise((resolve, reject) => {
    const server = createServer().on('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number }
      server.close(() => resolve(port))
    })
  })

export interface Server {
  port: number
  stop(): Promise<void>
}

/** Starts a server with an empty database `postgres`. */
export async function startPostgres(settings: string[] = []): Promise<Server> {
  const bin = whereIsPostgres()
  if (!bin) throw new Error('PostgreSQL is not installed')
  const folder = makeFolder()
  const [data, passwordFile, port] = [join(folder, 'data'), join(folder, 'password'), await freePort()]
  writeFileSync(passwordFile, PASSWORD)
  give(passwordFile)
  const options = ['--no-sync', '--username=postgres', '--auth=scram-sha-256', `--pwfile=${passwordFile}`]
  execFileSync(join(bin, 'initdb'), ['-D', data, ...options], { ...unprivileged(), cwd: '/', stdio: 'ignore' })
  const fixed = [
    'listen_addresses=127.0.0.1',
    `port=${port}`,
    `unix_socket_directories=${folder}`,
    'fsync=off',
    'jit=off',
  ]
  const all = [...fixed, 'max_connections=200', ...settings].flatMap((setting) => ['-c', setting])
  const stop = keep(join(bin, 'postgres'), ['-D', data, ...all], folder)
  await ready(() => tryQuery(port, 'SELECT 1').status === 0, folder)
  return { port, stop }
}

/** Starts PgBouncer before it, in the mode that changes the server's connections between transactions. */
export async function startPooler(server: Pick<Server, 'port'>): Promise<Server> {
  const folder = makeFolder()
  const [configuration, users, port] = [join(folder, 'ini'), join(folder, 'users'), await freePort()]
  writeFileSync(users, `"postgres" "${PASSWORD}"\n`)
  writeFileSync(
    configuration,
    `[databases]
postgres = host=127.0.0.1 port=${server.port} user=postgres password=${PASSWORD}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = ${users}
pool_mode = transaction
default_pool_size = 3
`,
  )
  for (const path of [configuration, users]) give(path)
  const stop = keep('pgbouncer', [configuration], folder)
  await ready(() => tryQuery(port, 'SELECT 1').status === 0, folder)
  return { port, stop }
}

/** Runs a program until it is stopped or this process ends, however that ends; its folder goes with it. */
function keep(program: string, parameters: string[], folder: string): () => Promise<void> {
  const log = join(folder, 'log')
  writeFileSync(log, '')
  give(log)
  chmodSync(folder, 0o755)
  // The shell's input ends with this process.
  const script = '"$@" </dev/null >>"$0" 2>&1 & read _; kill -INT $!; wait; rm -rf "$(dirname "$0")"'
  const keeper: ChildProcess = spawn('sh', ['-c', script, log, program, ...parameters], {
    ...unprivileged(),
    cwd: '/',
    env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin` },
    stdio: ['pipe', 'ignore', 'inherit'],
    detached: true,
  })
  keeper.unref()
  const ended = new Promise<void>((resolve) => keeper.once('exit', () => resolve()))
  return async () => {
    keeper.ref()
    keeper.stdin?.end()
    await ended
  }
}

async function ready(isReady: () => boolean, folder: string): Promise<void> {
  for (const end = Date.now() + START_MS; !isReady(); await sleep(20)) {
    if (Date.now() > end) throw new Error(`it does not start: ${readFileSync(join(folder, 'log'), 'utf8')}`)
  }
}

function tryQuery(port: number, sql: string) {
  return spawnSync(
    'psql',
    ['-qAtX', '-h', '127.0.0.1', '-p', String(port), '-U', 'postgres', '-d', 'postgres', '-c', sql],
    {
      env: { ...process.env, PGPASSWORD: PASSWORD, PGCONNECT_TIMEOUT: '5' },
      encoding: 'utf8',
    },
  )
}

/** What the server says to a statement, one row a line. */
export function query(port: number, sql: string): string {
  const { status, stdout, stderr } = tryQuery(port, sql)
  if (status !== 0) throw new Error(`${sql}: ${stderr}`)
  return stdout.trim()
}

/** The server, or something before it, as the package is told where it is. */
export const urlAt = (port: number, schema: string, more = ''): string =>
  `postgres://postgres:${PASSWORD}@127.0.0.1:${port}/postgres?schema=${encodeURIComponent(schema)}${more}`
