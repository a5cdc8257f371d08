// The longest time for which the event loop did not turn while something went on.

import { join } from 'node:path'
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises'
import { load } from '../candidates.mjs'
import { start } from '../processes.mjs'
import { promptOf, taskOf } from '../workspaces.mjs'

/** @typedef {{candidate: import('../candidates.mjs').CandidateName, folder: string, what: keyof typeof CASES}} Argument */

const HELD = 1000
const MANY = 1000

/** Each starts something, and resolves to whether it succeeded. */
const CASES = {
  /** Nothing at all: what the machine itself does to a process. */
  async nothing() {
    await sleep(HELD)
    return true
  },
  async 'a held database'({ leases, holder }) {
    const held = holder?.expect('holding')
    holder?.go()
    await held
    const answers = []
    for (let i = 0; i < 50; i++) {
      answers.push(leases.acquireLease(taskOf(i), `P${i}`))
      leases.holdsLease(taskOf(i), `P${i}`)
      await sleep(10)
    }
    return (await Promise.all(answers)).every(({ acquired }) => acquired)
  },
  async '1,000 leases pending'({ leases }) {
    const all = Array.from({ length: MANY }, (_, i) => leases.acquireLease(taskOf(i), `P${i}`))
    return (await Promise.all(all)).every(({ acquired }) => acquired)
  },
  async '1,000 attestations pending'({ prompts, specs }) {
    const all = specs.map((spec) => prompts.attest(spec))
    return (await Promise.all(all)).every(({ currentHash, error }) => currentHash !== '' && !error)
  },
  async '1,000 ledger appends pending'({ ledger }) {
    const all = Array.from({ length: MANY }, (_, i) => ledger.appendTransition(taskOf(i), null, 'PLAN', [], true))
    return (await Promise.all(all)).every(({ entry_hash }) => entry_hash.length === 64)
  },
  async checkpoints({ leases }) {
    // About fifty of them: each thousand pages of the log make one.
    for (let i = 0; i < 20_000; i++) {
      const task = taskOf(i * 7919)
      if (!(await leases.acquireLease(task, 'PLAN')).acquired) return false
      if (!(await leases.releaseLease(task, 'PLAN'))) return false
      if (i % 10 === 0) await nextTurn()
    }
    return true
  },
  async 'a reset among 100,000 baselines'({ prompts }) {
    const { taskId, phase } = promptOf(1)
    const hash = 'f'.repeat(64)
    await prompts.resetBaseline(taskId, phase, hash)
    return (await prompts.attest(promptOf(1))).baselineHash === hash
  },
}

/** @param {Argument} argument */
export async function prepare({ candidate, folder, what }) {
  const { PhaseLeaseManager, PromptAttestationManager, PhaseLedger } = load(candidate)
  const leases = new PhaseLeaseManager(folder)
  const prompts = new PromptAttestationManager(folder)
  const ledger = new PhaseLedger(folder)
  await prompts.initialize()
  await ledger.initialize()
  // Each call once, so that no first time is measured.
  await leases.acquireLease('first', 'PLAN')
  await leases.releaseLease('first', 'PLAN')
  await prompts.attest({ ...promptOf(0), taskId: 'first' })
  await ledger.appendTransition('first', null, 'PLAN', [], true)
  const specs = Array.from({ length: MANY }, (_, i) => promptOf(i))
  // Starting a process stalls the loop too, and is none of the package's doing.
  const isHeld = what === 'a held database'
  const database = { path: join(folder, 'state', 'orchestrator.db'), milliseconds: HELD }
  const holder = isHeld ? start('hold-database', database) : undefined
  await holder?.ready
  return { leases, prompts, ledger, specs, holder }
}

/**
 * @param {Argument} argument
 * @param {Awaited<ReturnType<typeof prepare>>} api
 */
export async function run({ what }, api) {
  await sleep(50)
  const loop = watchLoop()
  await nextTurn()
  const succeeded = await CASES[what](api)
  const longest = loop.stop()
  if (!succeeded) throw new Error(`${what}: not all calls succeeded`)
  return longest
}

function watchLoop() {
  let longest = 0
  let last = performance.now()
  let isWatching = true
  const turn = () => {
    const now = performance.now()
    longest = Math.max(longest, now - last)
    last = now
    if (isWatching) setImmediate(turn)
  }
  setImmediate(turn)
  return {
    stop() {
      isWatching = false
      return Math.max(longest, performance.now() - last)
    },
  }
}
