import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { Peer, type PeerContext } from '../helpers/peer.js'
import { onServer } from '../helpers/stores.js'
import { sleep, until } from '../helpers/wait.js'
import { makeWorkspace, openDatabase, openLeases } from '../helpers/workspace.js'
import { nanoseconds, quantile, random, scaled, spread, tell } from './weather.js'

interface Orders {
  root: string
  log: string
  keys: number
  /** When to stop, in nanoseconds. */
  until: number
  /** Whether everybody is let in, to see that this is noticed. */
  careless: boolean
}

/** Waits for leases and holds them, as agents do, and writes to a file of the key while it is in. */
async function work({ driftlock, require, sleep }: PeerContext, { root, log, keys, until, careless }: Orders) {
  const fs = require('node:fs') as typeof import('node:fs')
  const file = fs.openSync(log, 'a')
  const now = (): number => Number(process.hrtime.bigint())
  const counts = { held: 0, lost: 0, written: 0, timeouts: 0, waits: [] as number[] }
  const agent = async (): Promise<void> => {
    const manager = new driftlock.PhaseLeaseManager(root, { leaseDuration: 0.5, takeover: 'dead-holder' })
    while (now() < until) {
      const key = `T${Math.floor(Math.random() * keys)}`
      const phase = careless ? `SPEC-${Math.random()}` : 'SPEC'
      const asked = now()
      const lease = await manager.hold(key, phase, { waitMs: 60_000 }).catch((error) => {
        counts.timeouts++
        fs.writeSync(file, `error\t${error.code}\t${error.message}\n`)
      })
      if (!lease) continue
      counts.held++
      counts.waits.push((now() - asked) / 1e6)
      const note = (what: string): void => {
        // The time first: what is certain is then not too long, wherever between the two the process is stopped.
        const at = now()
        const remaining = lease.remainingMs()
        if (what === 'out' || (remaining > 0 && !lease.signal.aborted))
          fs.writeSync(file, `${what}\t${key}\t${lease.leaseId}\t${lease.fence.token}\t${at}\t${remaining}\n`)
      }
      note('in')
      for (let i = Math.random() * 6; i > 0; i--) {
        const path = `${root}/${key}.count`
        const next = Number(fs.readFileSync(path, 'utf8')) + 1
        if (Math.random() < 0.1) await sleep(Math.random() * 700)
        const written = await driftlock.fencedWriteFile(path, String(next), lease.fence).then(
          () => true,
          (error) => {
            if (error.code !== 'FENCED') fs.writeSync(file, `error\t${error.code}\t${error.message}\n`)
            return false
          },
        )
        if (!written) break
        counts.written++
        fs.writeSync(file, `written\t${key}\t${next}\n`)
        note('still')
      }
      if (lease.signal.aborted) counts.lost++
      note('out')
      await lease.release()
    }
    manager.close()
  }
  await Promise.all([agent(), agent(), agent()])
  return counts
}

type Counts = Awaited<ReturnType<typeof work>>

interface Interval {
  leaseId: string
  token: number
  from: number
  end: number
}

/** What the logs prove wrong: two certain holds at once, tokens that fall, writes that were lost. */
function check(logs: { path: string; died?: number }[]): string[] {
  const problems: string[] = []
  const intervals = new Map<string, Map<string, Interval>>()
  const written = new Map<string, number[]>()
  for (const { path, died } of logs) {
    for (const line of readFileSync(path, 'utf8').split('\n').slice(0, -1)) {
      const [what, key, ...rest] = line.split('\t') as [string, string, ...string[]]
      if (what === 'error') problems.push(line)
      else if (what === 'written') written.set(key, [...(written.get(key) ?? []), Number(rest[0])])
      else {
        const [leaseId, token, at, remaining] = [rest[0]!, Number(rest[1]), Number(rest[2]), Number(rest[3])]
        const ofKey = intervals.get(key) ?? new Map<string, Interval>()
        intervals.set(key, ofKey)
        // Stopped before it was in, until it had lost the lease: it held nothing for certain.
        if (what === 'out' && !ofKey.has(leaseId)) continue
        const known = ofKey.get(leaseId) ?? { leaseId, token, from: at, end: at }
        ofKey.set(leaseId, known)
        // A millisecond less, by which times are rounded. A dead process holds nothing.
        const certain = what === 'out' ? Math.min(known.end, at) : at + (remaining - 1) * 1e6
        known.end = Math.min(certain, died ?? Number.POSITIVE_INFINITY)
      }
    }
  }
  for (const [key, ofKey] of intervals) {
    const list = [...ofKey.values()].sort((a, b) => a.from - b.from)
    for (let i = 1; i < list.length; i++) {
      const [before, after] = [list[i - 1]!, list[i]!]
      if (after.from < before.end) problems.push(`${key}: ${before.leaseId} and ${after.leaseId} at once`)
      if (after.token <= before.token) problems.push(`${key}: token ${after.token} after ${before.token}`)
    }
  }
  for (const [key, numbers] of written) {
    if (new Set(numbers).size !== numbers.length) problems.push(`${key}: a write was lost`)
  }
  return problems
}

async function storm(root: string, keys: number, seconds: number, { careless = false } = {}) {
  for (let i = 0; i < keys; i++) writeFileSync(join(root, `T${i}.count`), '0')
  const logs: { path: string; died?: number }[] = []
  const launch = async (end: number) => {
    const log: { path: string; died?: number } = { path: join(root, `p${logs.length}.log`) }
    writeFileSync(log.path, '')
    logs.push(log)
    const peer = await Peer.start()
    const answer = peer.run(work, { root, log: log.path, keys, until: end, careless })
    answer.catch(() => {})
    return { peer, log, answer: answer as Promise<Counts> }
  }
  const end = nanoseconds() + seconds * 1e9 + 1e9
  const left = (): number => (end - nanoseconds()) / 1e6
  const steady = await Promise.all(Array.from({ length: 4 }, () => launch(end)))
  let [kills, stops] = [0, 0]
  const killing = async (): Promise<void> => {
    while (left() > 600) {
      const { peer, log } = await launch(end)
      await sleep(Math.min(random(100, 1500), left()))
      log.died = nanoseconds()
      await peer.kill()
      kills++
    }
  }
  const stopping = async (): Promise<void> => {
    const victims = [await launch(end), await launch(end)]
    while (left() > 2500) {
      const { peer, log } = victims[random(0, 2)]!
      peer.child.kill('SIGSTOP')
      await sleep(random(50, 2000))
      const size = (): number => readFileSync(log.path).length
      const before = size()
      peer.child.kill('SIGCONT')
      stops++
      await until(() => size() > before || left() < 1000, 'who was stopped gets on')
      await sleep(random(50, 300))
    }
    await Promise.all(victims.map(({ answer }) => answer))
  }
  const [counts] = await Promise.all([
    Promise.all(steady.map(({ answer }) => answer)),
    stopping(),
    killing(),
    killing(),
  ])
  return { counts, logs, kills, stops }
}

test.each([1, 3])('held leases on %i keys: no two at once, no waiter lost, no fenced write lost', async (keys) => {
  const root = makeWorkspace()
  const seconds = scaled(60, 8)
  const { counts, logs, kills, stops } = await storm(root, keys, seconds)
  const sum = (of: (counts: Counts) => number): number => counts.reduce((total, each) => total + of(each), 0)
  tell(
    `holds on ${keys} keys for ${seconds} s, ${kills} killed, ${stops} stopped: ` +
      `${Math.round(sum(({ held }) => held) / seconds)} held/s, ${sum(({ written }) => written)} written, ` +
      `${sum(({ lost }) => lost)} lost by those who were not stopped`,
  )
  tell(`  waits in ms: ${spread(counts.flatMap(({ waits }) => waits))}`)
  expect(check(logs).slice(0, 20)).toEqual([])
  expect(sum(({ timeouts }) => timeouts)).toBe(0)
  const each = counts.map(({ held }) => held)
  expect(quantile(each, 0)).toBeGreaterThan(sum(({ held }) => held) / each.length / 3)
  expect(kills).toBeGreaterThan(3)
  expect(stops).toBeGreaterThan(onServer ? 0 : 1)
  if (!onServer) expect(openDatabase(root).pragma('integrity_check', { simple: true })).toBe('ok')
  const after = openLeases(root)
  for (let i = 0; i < keys; i++) await (await after.hold(`T${i}`, 'SPEC', { waitMs: 5000 })).release()
  expect((await after.listLeases()).filter(({ waiters }) => waiters > 0)).toEqual([])
})

// It shows what the checks are worth, on whatever store.
test.skipIf(onServer)('if everybody is let in, these checks fail', async () => {
  const { logs } = await storm(makeWorkspace(), 1, 3, { careless: true })
  expect(check(logs).join('\n')).toMatch(/at once/)
})
