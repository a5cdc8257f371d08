// Processes of agents: the program that agents.rs is.

import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fail, outputOf } from '../../scripts/lib.mjs'

const BUILD = ['build', '--locked', '--release', '--bench', 'postgres', '--no-default-features']
/** As many connections as a process has at most. */
const AGENTS_PER_PROCESS = 8

/** Builds the program; where it is. */
export function buildAgents() {
  const messages = outputOf('cargo', [...BUILD, '--message-format=json'])
  if (messages === null)
    fail('the agents could not be built; cargo build --release --bench postgres --no-default-features says why')
  for (const line of messages.split('\n').filter((line) => line.startsWith('{'))) {
    const { target, executable } = JSON.parse(line)
    if (executable && target.name === 'postgres') return executable
  }
  fail('cargo does not say where the agents are')
}

/**
 * Runs agents, in processes of 8 at most, which begin together.
 * @param {string} program
 * @param {{url: string, folder: string, operation: string, name: string, agents: number, seconds: number}} order
 * @returns {Promise<number[]>} how long each operation took, in milliseconds
 */
export async function runAgents(program, order) {
  const processes = []
  for (let left = order.agents; left > 0; left -= AGENTS_PER_PROCESS) {
    const agents = Math.min(left, AGENTS_PER_PROCESS)
    processes.push(start(program, { ...order, name: `${order.name} ${left}`, agents }))
  }
  await Promise.all(processes.map(({ ready }) => ready))
  for (const { go } of processes) go()
  const answers = await Promise.all(processes.map(({ answer }) => answer))
  return answers.flatMap(({ durations }) => durations.map((us) => us / 1000))
}

/**
 * Starts a process, which waits to be told to go.
 * @param {string} program
 * @param {object} order
 */
export function start(program, order) {
  const child = spawn(program, [JSON.stringify(order)], { stdio: ['pipe', 'pipe', 'inherit'] })
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const line = async () => {
    const { value } = await lines.next()
    if (value === undefined) throw new Error('agents have ended without an answer')
    return value
  }
  const ready = line()
  const answer = ready
    .then(line)
    .then((text) => /** @type {{durations: number[], turns: [number, number][]}} */ (JSON.parse(text)))
  for (const promise of [ready, answer]) promise.catch(() => child.kill('SIGKILL'))
  return { ready, answer, go: () => child.stdin.end('go\n'), pid: child.pid }
}
