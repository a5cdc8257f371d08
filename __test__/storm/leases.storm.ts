import { readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { Peer, type PeerContext } from '../helpers/peer.js'
import { onServer, queryStore } from '../helpers/stores.js'
import { sleep, until } from '../helpers/wait.js'
import { makeWorkspace, openDatabase, openLeases } from '../helpers/workspace.js'
import { type Call, checkLeases, parseCalls } from './lease-log.js'
import { nanoseconds, quantile, random, scaled, spread, tell } from './weather.js'

interface Orders {
  root: string
  log: string
  name: string
  keys: number
  /** When to stop, in nanoseconds. */
  until: number
  /** Whether nobody is refused, to see that this is noticed. */
  careless: boolean
}

/** Works with leases as agents do, logging every call before and after it. */
async function work({ driftlock, require, sleep }: PeerContext, { root, log, name, keys, until, careless }: Orders) {
  const fs = require('node:fs') as typeof import('node:fs')
  const file = fs.openSync(log, 'a')
  const now = (): number => Number(process.hrtime.bigint())
  const [held, notHeld] = ['Lease already held by another agent', 'Lease not held by this agent']
  const counts = { calls: 0, acquired: 0 }

  const agent = async (id: string, duration: number): Promise<void> => {
    const manager = new driftlock.PhaseLeaseManager(root, {
      agentId: id,
      leaseDuration: duration / 1000,
      maxRenewals: 1_000_000,
    })
    if (careless) {
      manager.acquireLease = () => Promise.resolve({ acquired: true, lease: { fencing_token: now() } as never })
    }
    const pause = (shortest: number, longest: number): Promise<void> =>
      sleep(shortest + Math.random() * (longest - shortest))
    const logged = async <T>(
      op: string,
      key: string,
      call: () => T | Promise<T>,
      answerOf: (value: T) => (string | number)[],
    ): Promise<T> => {
      const number = `${id}/${counts.calls++}`
      fs.writeSync(file, `i\t${number}\t${id}\t${duration * 1e6}\t${op}\t${key}\t${now()}\n`)
      const value = await call()
      fs.writeSync(file, `r\t${number}\t${now()}\t${answerOf(value).join('\t')}\n`)
      return value
    }
    const yesNo = (value: boolean, reason?: string, fine?: string): string =>
      value ? 'yes' : reason === fine ? 'no' : String(reason)
    const renew = (key: string) =>
      logged(
        'renew',
        key,
        () => manager.renewLease(key, 'SPEC'),
        ({ renewed, reason }) => [yesNo(renewed, reason, notHeld)],
      )
    const release = (key: string) =>
      logged(
        'release',
        key,
        () => manager.releaseLease(key, 'SPEC'),
        (released) => [yesNo(released)],
      )
    const look = (key: string) =>
      logged(
        'holds',
        key,
        () => manager.holdsLease(key, 'SPEC'),
        (holds) => [yesNo(holds)],
      )

    while (now() < until) {
      const key = `T${Math.floor(Math.random() * keys)}`
      const { lease } = await logged(
        'acquire',
        key,
        () => manager.acquireLease(key, 'SPEC'),
        ({ acquired, reason, lease }) => [yesNo(acquired, reason, held), lease?.fencing_token ?? ''],
      )
      if (!lease) {
        if (Math.random() < 0.1) await look(key)
        await pause(0, 3)
        continue
      }
      counts.acquired++
      const choice = Math.random()
      if (choice < 0.6) {
        // Short work.
        for (let i = Math.random() * 4; i > 0; i--) await new Promise((resolve) => setImmediate(resolve))
        await look(key)
        await release(key)
      } else if (choice < 0.75) {
        await pause(0, duration / 2)
        await look(key)
        await release(key)
      } else if (choice < 0.87) {
        // Long work, with renewals in time.
        for (let i = Math.random() * 4; i > 0; i--) {
          await pause(duration * 0.3, duration * 0.7)
          await renew(key)
        }
        await look(key)
        await release(key)
      } else if (choice < 0.91) {
        // Renewed too late, by luck still its own.
        await pause(duration, duration * 1.5)
        await renew(key)
        await look(key)
        await release(key)
      } else if (choice < 0.94) {
        // Released too late.
        await pause(duration, duration * 1.3)
        await look(key)
        await release(key)
      } else if (choice < 0.95) {
        await logged(
          'releaseAll',
          key,
          () => manager.releaseAllLeases(),
          () => ['yes'],
        )
      } // else left to expire
    }
    manager.close()
  }
  await Promise.all([agent(`${name}-short`, 30), agent(`${name}-long`, 300)])
  return counts
}

/** What makes a process known to the server by its name. */
const named = (name: string): Record<string, string> =>
  onServer ? { DRIFTLOCK_STORE: `${process.env.DRIFTLOCK_STORE}&application_name=${name}` } : {}

/** Waits until nothing more is done for a process that was killed: a server goes on with what it was asked. */
async function forgotten(name: string): Promise<void> {
  const connections = `SELECT count(*) FROM pg_stat_activity WHERE application_name = '${name}'`
  if (onServer) await until(() => queryStore(connections) === '0', 'the server has done with who was killed')
}

/** Has the server's clock answer late at times, so that leases end also between two looks at it. */
async function slowTheClock(root: string): Promise<void> {
  // The first call makes the schema.
  await openLeases(root).releaseAllLeases()
  queryStore(
    `CREATE OR REPLACE FUNCTION @.now_1() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN
       IF random() < 0.1 THEN PERFORM pg_sleep(random() / 100); END IF;
       RETURN clock_timestamp();
     END $$`,
  )
}

interface Outcome {
  calls: Call[]
  /** Of those processes that ran all the time. */
  counts: { calls: number; acquired: number }[]
  kills: number
  stops: number
}

async function storm(root: string, keys: number, seconds: number, { careless = false } = {}): Promise<Outcome> {
  const logs: { path: string; died?: number }[] = []
  let incarnations = 0
  const launch = async (): Promise<{
    name: string
    peer: Peer
    log: (typeof logs)[number]
    answer: Promise<{ calls: number; acquired: number }>
  }> => {
    const name = `p${incarnations++}`
    const log = { path: join(root, `${name}.log`) }
    const peer = await Peer.start(named(name))
    // It may be killed before it gets to make it.
    writeFileSync(log.path, '')
    logs.push(log)
    const answer = peer.run(work, { root, log: log.path, name, keys, until: end, careless })
    answer.catch(() => {})
    return { name, peer, log, answer }
  }
  // Processes take a while to start.
  let end = nanoseconds() + 600e9
  const peers = await Peer.startMany(10)
  end = nanoseconds() + seconds * 1e9
  const steady = peers.map((peer, i) => {
    const log = { path: join(root, `steady${i}.log`) }
    logs.push(log)
    const answer = peer.run(work, { root, log: log.path, name: `steady${i}`, keys, until: end, careless })
    answer.catch(() => {})
    return answer
  })
  const left = (): number => (end - nanoseconds()) / 1e6
  let [kills, stops] = [0, 0]

  const killing = async (): Promise<void> => {
    while (left() > 600) {
      const { name, peer, log } = await launch()
      await sleep(Math.min(random(100, 1500), left()))
      await peer.kill()
      await forgotten(name)
      Object.assign(log, { died: nanoseconds() })
      kills++
    }
  }
  // One at a time, and the next only once this one has got on: whoever is stopped amid a transaction stops all who
  // write, and 5 s of that is an error.
  const stopping = async (): Promise<void> => {
    const victims = await Promise.all([launch(), launch(), launch()])
    while (left() > 1500) {
      const { peer, log } = victims[random(0, 3)]!
      peer.child.kill('SIGSTOP')
      await sleep(Math.min(random(50, 3000), left() - 1000))
      const written = (): number => statSync(log.path).size
      const before = written()
      peer.child.kill('SIGCONT')
      stops++
      await until(() => written() > before || left() < 1000, 'who was stopped gets on')
      await sleep(random(100, 600))
    }
    await Promise.all(victims.map(({ answer }) => answer))
  }
  const [counts] = await Promise.all([Promise.all(steady), stopping(), killing(), killing(), killing()])
  const calls: Call[] = []
  for (const { path, died } of logs) for (const call of parseCalls(readFileSync(path, 'utf8'), died)) calls.push(call)
  return { calls, counts, kills, stops }
}

describe('16 processes, killed, stopped and restarted', () => {
  test.each([3, 1000])('on %i keys: no two hold one, tokens rise, nobody starves', async (keys) => {
    const root = makeWorkspace()
    if (onServer) await slowTheClock(root)
    else openLeases(root)
    const seconds = scaled(60, 10)
    const { calls, counts, kills, stops } = await storm(root, keys, seconds)
    const waits = (op: Call['op']): number[] =>
      calls.flatMap((call) => (call.op === op && call.answered ? [(call.answered - call.invoked) / 1e6] : []))
    const fairness = (values: number[]): number =>
      Math.min(...values) / (values.reduce((a, b) => a + b, 0) / values.length)
    const acquired = counts.map(({ acquired }) => acquired)
    tell(
      `leases, 16 processes on ${keys} keys for ${seconds} s, ${kills} killed, ${stops} stopped: ${Math.round(calls.length / seconds)} calls/s, ` +
        `${Math.round(calls.filter(({ token }) => token).length / seconds)} acquired/s; slowest to mean: ` +
        `calls ${fairness(counts.map(({ calls }) => calls)).toFixed(2)}, acquired ${fairness(acquired).toFixed(2)}`,
    )
    for (const op of ['acquire', 'renew', 'release'] as const) tell(`  ${op} in ms: ${spread(waits(op), 2)}`)
    expect(checkLeases(calls).slice(0, 20)).toEqual([])
    expect(kills).toBeGreaterThan(3)
    expect(stops).toBeGreaterThan(onServer ? 0 : 1)
    expect(fairness(counts.map(({ calls }) => calls))).toBeGreaterThan(1 / 3)
    expect(fairness(acquired)).toBeGreaterThan(1 / 3)
    expect(quantile(acquired, 0)).toBeGreaterThan(onServer ? 5 : 10)
    if (!onServer) expect(openDatabase(root).pragma('integrity_check', { simple: true })).toBe('ok')
    expect((await openLeases(root).acquireLease('AFTER', 'SPEC')).acquired).toBe(true)
  })

  // It shows what the checks are worth, on whatever store.
  test.skipIf(onServer)('if nobody is refused, these checks fail', async () => {
    const { calls } = await storm(makeWorkspace(), 3, 4, { careless: true })
    const problems = checkLeases(calls).join('\n')
    expect(problems).toMatch(/at once/)
    expect(problems).toMatch(/denied/)
  })
})
