// Programs that run in the background, on free ports of the loopback interface.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

/** @returns {Promise<number>} a port that nobody listens on */
export async function freePort() {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = /** @type {import('node:net').AddressInfo} */ (server.address())
  server.close()
  await once(server, 'close')
  return port
}

/**
 * @template T
 * @param {string} what named in the error
 * @param {() => T | Promise<T>} check
 * @param {number} [limit] milliseconds
 * @returns {Promise<NonNullable<T>>} what it answered, once that is neither false nor nothing
 */
export async function until(what, check, limit = 30_000) {
  const end = Date.now() + limit
  for (;;) {
    const answer = await check()
    if (answer) return answer
    if (Date.now() > end) throw new Error(`waited ${limit / 1000} s in vain: ${what}`)
    await sleep(100)
  }
}

/** A program that is ready to answer. */
export class Program {
  #child
  #output = ''

  /** @param {import('node:child_process').ChildProcessByStdio<null, import('node:stream').Readable, import('node:stream').Readable>} child */
  constructor(child) {
    this.#child = child
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text) => {
        this.#output += text
      })
    }
  }

  /**
   * @param {string} program
   * @param {string[]} args
   * @param {string} readyUrl answers once it is ready
   */
  static async start(program, args, readyUrl) {
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] })
    const started = new Program(child)
    /** @type {Error | undefined} */
    let failure
    child.once('error', (error) => {
      failure = error
    })
    await until(`${program} ${args.join(' ')}`, async () => {
      if (failure) throw failure
      if (started.ended) throw new Error(`${program} ended at its start:\n${started.output}`)
      return (await fetch(readyUrl).catch(() => undefined))?.ok
    }).catch(async (error) => {
      await started.stop('SIGKILL')
      throw error
    })
    return started
  }

  /** What it printed. */
  get output() {
    return this.#output
  }

  get ended() {
    return this.#child.exitCode !== null || this.#child.signalCode !== null
  }

  /** @param {NodeJS.Signals} [signal] */
  async stop(signal = 'SIGTERM') {
    if (this.ended || this.#child.pid === undefined) return
    const exit = once(this.#child, 'exit')
    this.#child.kill(signal)
    await exit
  }
}
