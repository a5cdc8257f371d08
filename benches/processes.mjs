// Processes of their own, for what can only be measured there.

import { fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'

const CHILD = fileURLToPath(new URL('./child.mjs', import.meta.url))

/**
 * Runs a job of `jobs/` in a fresh process to its end.
 * @param {string} job
 * @param {object} argument
 * @returns {Promise<any>} what the job answered
 */
export async function runJob(job, argument) {
  const [answer] = await runTogether(job, [argument])
  return answer
}

/**
 * Runs a job in several processes, which begin together when all have started.
 * @param {string} job
 * @param {object[]} processArguments one for each process
 * @returns {Promise<any[]>}
 */
export async function runTogether(job, processArguments) {
  const children = processArguments.map((argument) => start(job, argument))
  try {
    await Promise.all(children.map((child) => child.ready))
    for (const { go } of children) go()
    return await Promise.all(children.map((child) => child.answer))
  } finally {
    for (const { stop } of children) stop()
  }
}

/**
 * Starts a job, which waits to be told to go.
 * @param {string} job
 * @param {object} argument
 */
export function start(job, argument) {
  const child = fork(CHILD, [job, JSON.stringify(argument)], {
    execArgv: ['--expose-gc'],
    serialization: 'advanced',
  })
  // A process may be gone before its last message has been read: all are only when the channel has closed as well.
  const ended = Promise.all([once(child, 'exit'), once(child, 'disconnect')]).then(([[code, signal]]) => {
    throw new Error(`a process for ${job} ended with ${signal ?? code} and without an answer`)
  })
  const expect = (/** @type {string} */ type) =>
    Promise.race([
      ended,
      new Promise((resolve) => {
        child.on('message', (/** @type {any} */ message) => {
          if (message.type === type) resolve(message.value)
        })
      }),
    ])
  const [ready, answer] = [expect('ready'), expect('answer')]
  // They are awaited one after the other, and not at all after a failure of another process.
  for (const promise of [ready, answer]) promise.catch(() => {})
  return {
    ready,
    answer,
    /** Resolves when the job tells this, with nothing. */
    expect,
    go: () => child.send({ type: 'go' }),
    stop: () => child.kill('SIGKILL'),
  }
}
