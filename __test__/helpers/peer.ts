import { type ChildProcess, fork, spawn } from 'node:child_process'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { onTestFinished } from 'vitest'
import { sleep } from './wait.js'

export const packageEntry = join(__dirname, '..', '..', 'index.js')
const sqliteEntry = createRequire(__filename).resolve('better-sqlite3')
const peerScript = join(__dirname, 'peer.mjs')

export interface PeerContext {
  driftlock: typeof import('../../index.js')
  Database: typeof Database
  require: NodeRequire
  // biome-ignore lint/suspicious/noExplicitAny: what one function of a test leaves for the next
  kept: Record<string, any>
  sleep(ms: number): Promise<void>
}

interface Answer {
  id?: number
  ready?: true
  value?: unknown
  error?: { name: string; message: string; code?: string }
}

/** Another process that uses the package. It ends with the test. */
export class Peer {
  private next = 1
  private readonly waiting = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>()
  readonly exited: Promise<void>

  private constructor(readonly child: ChildProcess) {
    child.on('message', (answer: Answer) => {
      const call = this.waiting.get(answer.id ?? 0)
      if (!call) return
      this.waiting.delete(answer.id ?? 0)
      if (answer.error) call.reject(Object.assign(new Error(answer.error.message), answer.error))
      else call.resolve(answer.value)
    })
    this.exited = new Promise((resolve) => {
      child.on('exit', (code, signal) => {
        for (const { reject } of this.waiting.values()) reject(new Error(`peer ended: ${code ?? signal}`))
        this.waiting.clear()
        resolve()
      })
    })
  }

  static async start(env: Record<string, string | undefined> = {}): Promise<Peer> {
    const child = fork(peerScript, [], {
      serialization: 'advanced',
      execArgv: [],
      env: { ...process.env, ...env },
    })
    const peer = new Peer(child)
    onTestFinished(() => peer.kill())
    await new Promise<void>((resolve, reject) => {
      child.once('message', () => resolve())
      child.once('exit', (code) => reject(new Error(`peer ended at its start: ${code}`)))
      child.once('error', reject)
    })
    return peer
  }

  static startMany(count: number): Promise<Peer[]> {
    return Promise.all(Array.from({ length: count }, () => Peer.start()))
  }

  /** Runs `fn` over there. It travels as its source text: it may use nothing but its two arguments. */
  run<A, R>(fn: (context: PeerContext, argument: A) => R | Promise<R>, argument?: A): Promise<R> {
    const id = this.next++
    return new Promise<R>((resolve, reject) => {
      this.waiting.set(id, { resolve: resolve as (value: unknown) => void, reject })
      this.child.send({ id, source: fn.toString(), argument }, (error) => {
        if (error && this.waiting.delete(id)) reject(error)
      })
    })
  }

  /** Ends the process without giving it a chance to clean up. */
  async kill(): Promise<void> {
    if (this.child.exitCode === null && this.child.signalCode === null) this.child.kill('SIGKILL')
    await this.exited
  }

  /** Stops the process, at a moment when it doesn't have this database locked. */
  async stop(path: string): Promise<void> {
    const db = new Database(path, { timeout: 0 })
    for (;;) {
      this.child.kill('SIGSTOP')
      await sleep(5)
      try {
        db.exec('BEGIN IMMEDIATE; ROLLBACK')
        break
      } catch {
        this.child.kill('SIGCONT')
        await sleep(5)
      }
    }
    db.close()
  }

  get pid(): number {
    return this.child.pid ?? 0
  }
}

export interface Ended {
  code: number | null
  signal: string | null
  stdout: string
  stderr: string
}

export type ScriptContext = Pick<PeerContext, 'driftlock' | 'Database' | 'require' | 'sleep'>

/** Runs `fn` in a fresh `node` that has nothing else to do, and answers when that has ended by itself. */
export function runScript<A>(
  fn: (context: ScriptContext, argument: A) => unknown,
  argument: A,
  { env = {}, limit = 20_000 }: { env?: Record<string, string | undefined>; limit?: number } = {},
): Promise<Ended> {
  const source = `
    const context = {
      driftlock: require(${JSON.stringify(packageEntry)}),
      get Database() { return require(${JSON.stringify(sqliteEntry)}) },
      require,
      sleep: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
    };
    Promise.resolve((${fn.toString()})(context, ${JSON.stringify(argument) ?? 'undefined'}))
      .catch((error) => { console.error(error); process.exitCode = 99 })`
  return runNode(['--input-type=commonjs', '--eval', source], { env, limit })
}

export function runNode(
  parameters: string[],
  { env = {}, limit = 20_000, cwd }: { env?: Record<string, string | undefined>; limit?: number; cwd?: string } = {},
): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, parameters, {
      env: { ...process.env, NODE_OPTIONS: '', ...env },
      cwd,
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let stdout = ''
    let stderr = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text))
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text))
    const timer = setTimeout(() => child.kill('SIGKILL'), limit)
    child.on('error', reject)
    child.on('close', (code, signal) => {
      clearTimeout(timer)
      resolve({ code, signal, stdout, stderr })
    })
  })
}
