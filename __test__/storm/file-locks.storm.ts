import { appendFileSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { acquireLock, releaseLock, withFileLock } from '../../index.js'
import { Peer } from '../helpers/peer.js'
import { sleep, until } from '../helpers/wait.js'
import { makeWorkspace, readLines } from '../helpers/workspace.js'
import { nanoseconds, quantile, random, scaled, spread, tell } from './weather.js'

const PATIENT = { timeout: 120_000, retryDelay: 1000, maxRetries: 1_000_000 }
const ONCE = { timeout: 0 }

interface Stay {
  from: number
  to: number
}

/** Increments a number in a file `times` times, each time by reading and writing it, from two loops at once. */
async function increment(
  peers: Peer[],
  root: string,
  times: number,
  guarded: boolean,
): Promise<{ stays: Stay[]; waits: number[]; intruders: number }> {
  const results = await Promise.all(
    peers.map((peer) =>
      peer.run(
        async ({ driftlock, require }, { root, times, guarded, options }) => {
          const fs = require('node:fs') as typeof import('node:fs')
          const now = (): number => Number(process.hrtime.bigint())
          const withLock = guarded
            ? driftlock.withFileLock
            : async <T>(_path: string, operation: () => T | PromiseLike<T>): Promise<T> => operation()
          const [path, number, inside] = [`${root}/a.lock`, `${root}/number`, `${root}/inside`]
          const stays: Stay[] = []
          const waits: number[] = []
          let intruders = 0
          const loop = async (times: number): Promise<void> => {
            for (let i = 0; i < times; i++) {
              const asked = now()
              await withLock(
                path,
                async () => {
                  const from = now()
                  waits.push((from - asked) / 1e6)
                  let isMine = true
                  try {
                    fs.closeSync(fs.openSync(inside, 'wx'))
                  } catch {
                    isMine = false
                    intruders++
                  }
                  // Both ways, for one yields to the event loop and the other does not.
                  if (i % 2) {
                    fs.writeFileSync(number, String(Number(fs.readFileSync(number, 'utf8')) + 1))
                  } else {
                    const value = Number(await fs.promises.readFile(number, 'utf8'))
                    await fs.promises.writeFile(number, String(value + 1))
                  }
                  if (isMine) fs.unlinkSync(inside)
                  stays.push({ from, to: now() })
                },
                options,
              )
            }
          }
          await Promise.all([loop(times / 2), loop(times / 2)])
          return { stays, waits, intruders }
        },
        { root, times, guarded, options: PATIENT },
      ),
    ),
  )
  return {
    stays: results.flatMap(({ stays }) => stays).sort((a, b) => a.from - b.from),
    waits: results.flatMap(({ waits }) => waits),
    intruders: results.reduce((sum, { intruders }) => sum + intruders, 0),
  }
}

const overlaps = (stays: Stay[]): number =>
  stays.filter(({ from }, i) => i > 0 && from < (stays[i - 1]?.to ?? 0)).length

describe('increments of a number in a file', () => {
  test('by 8 processes: none is lost, and never two are inside', async () => {
    const root = makeWorkspace()
    const times = scaled(1000, 250)
    writeFileSync(join(root, 'number'), '0')
    const peers = await Peer.startMany(8)
    const start = Date.now()
    const { stays, waits, intruders } = await increment(peers, root, times, true)
    const took = Date.now() - start
    tell(
      `file lock, 8 processes: ${Math.round(stays.length / (took / 1000))} increments/s; wait in ms ${spread(waits)}`,
    )
    expect(readFileSync(join(root, 'number'), 'utf8')).toBe(String(8 * times))
    expect(stays).toHaveLength(8 * times)
    expect({ overlaps: overlaps(stays), intruders }).toEqual({ overlaps: 0, intruders: 0 })
  })

  test('without the lock these checks fail', async () => {
    const root = makeWorkspace()
    writeFileSync(join(root, 'number'), '0')
    const { stays, intruders } = await increment(await Peer.startMany(4), root, 100, false)
    expect(Number(readFileSync(join(root, 'number'), 'utf8'))).not.toBe(400)
    expect(overlaps(stays)).toBeGreaterThan(0)
    expect(intruders).toBeGreaterThan(0)
  })
})

/** A line of the log of those who come and go, and of kills. */
interface Event {
  pid: number
  event: 'enter' | 'leave' | 'kill'
  at: number
  value: number
}

/** What is wrong with the log: two inside at once, a holder robbed while it lived, a number that went back. */
function checkVisits(events: Event[]): string[] {
  const problems: string[] = []
  const killed = new Map<number, number>()
  for (const { pid, event, at } of events) if (event === 'kill') killed.set(pid, at)
  let inside: Event | undefined
  let value = 0 // what the next one must find, or one less if the last one was killed
  const visits = events.filter(({ event }) => event !== 'kill')
  for (const visit of visits) {
    if (visit.event === 'leave') {
      if (inside?.pid !== visit.pid) problems.push(`${visit.pid} left, inside was ${inside?.pid}`)
      inside = undefined
      value = visit.value + 1
      continue
    }
    if (inside && visit.at < (killed.get(inside.pid) ?? Number.POSITIVE_INFINITY)) {
      problems.push(`${visit.pid} entered while ${inside.pid} was inside and alive`)
    }
    const mayBe = inside ? [inside.value, inside.value + 1] : [value]
    if (!mayBe.includes(visit.value))
      problems.push(`${visit.pid} found ${visit.value} instead of ${mayBe.join(' or ')}`)
    inside = visit
  }
  return problems
}

describe('the check of visits finds', () => {
  const visit = (pid: number, event: Event['event'], at: number, value = 0): Event => ({ pid, event, at, value })

  test('nothing in a good log', () => {
    expect(
      checkVisits([
        visit(1, 'enter', 1, 0),
        visit(1, 'leave', 2, 0),
        visit(2, 'enter', 3, 1),
        visit(2, 'kill', 4),
        visit(1, 'enter', 5, 1),
      ]),
    ).toEqual([])
  })

  test('two inside', () => {
    expect(checkVisits([visit(1, 'enter', 1), visit(2, 'enter', 2), visit(1, 'leave', 3)])).not.toEqual([])
  })

  test('one who entered before the holder was killed', () => {
    expect(checkVisits([visit(1, 'enter', 1), visit(2, 'enter', 2), visit(1, 'kill', 3)])).not.toEqual([])
  })

  test('a lost increment', () => {
    expect(
      checkVisits([visit(1, 'enter', 1, 0), visit(1, 'leave', 2, 0), visit(2, 'enter', 3, 0), visit(2, 'leave', 4, 0)]),
    ).not.toEqual([])
  })
})

describe('holders killed at random', () => {
  test('the next one is in at once, and nothing is lost', async () => {
    const root = makeWorkspace()
    const [path, log, number] = [join(root, 'a.lock'), join(root, 'visits'), join(root, 'number')]
    writeFileSync(number, '0'.padStart(12))
    writeFileSync(log, '')
    const pids: number[] = []
    for (let batch = 0; batch < scaled(12, 3); batch++) {
      const peers = await Peer.startMany(8)
      for (const peer of peers) {
        peer
          .run(
            async ({ driftlock, require, sleep }, { path, log, number, options }) => {
              const fs = require('node:fs') as typeof import('node:fs')
              const [visits, counter] = [fs.openSync(log, 'a'), fs.openSync(number, 'r+')]
              const bytes = Buffer.alloc(12)
              const note = (event: string, value: number): void => {
                fs.writeSync(
                  visits,
                  `${JSON.stringify({ pid: process.pid, event, at: Number(process.hrtime.bigint()), value })}\n`,
                )
              }
              for (;;) {
                await driftlock.withFileLock(
                  path,
                  async () => {
                    fs.readSync(counter, bytes, 0, 12, 0)
                    const value = Number(bytes.toString())
                    note('enter', value)
                    await sleep(Math.random() * 4)
                    fs.writeSync(counter, String(value + 1).padStart(12), 0)
                    note('leave', value)
                  },
                  options,
                )
              }
            },
            { path, log, number, options: PATIENT },
          )
          .catch(() => {})
      }
      await sleep(300)
      // The last two are not killed here: somebody has to wait.
      for (let kills = 0; kills < 6; kills++) {
        await sleep(random(20, 60))
        const victim = await until(() => {
          try {
            const { pid } = JSON.parse(readFileSync(path, 'utf8')) as { pid: number }
            return peers.find((peer) => peer.pid === pid)
          } catch {
            return undefined
          }
        }, 'somebody holds the lock')
        pids.push(victim.pid)
        const at = nanoseconds()
        victim.child.kill('SIGKILL')
        appendFileSync(log, `${JSON.stringify({ pid: victim.pid, event: 'kill', at, value: 0 })}\n`)
        await victim.exited
      }
      await sleep(50)
      for (const peer of peers) {
        const at = nanoseconds()
        await peer.kill()
        if (!pids.includes(peer.pid))
          appendFileSync(log, `${JSON.stringify({ pid: peer.pid, event: 'kill', at, value: 0 })}\n`)
      }
    }
    const events = readLines(log) as Event[]
    expect(checkVisits(events)).toEqual([])
    const visits = events.filter(({ event }) => event !== 'kill')
    const left = visits.filter(({ event }) => event === 'leave').length
    const value = Number(readFileSync(number, 'utf8'))
    const killedInside = visits.filter(({ event }, i) => event === 'enter' && visits[i + 1]?.event !== 'leave').length
    expect(value).toBeGreaterThanOrEqual(left)
    expect(value).toBeLessThanOrEqual(left + killedInside)

    // From the kill until the next one is in, wherever the killed one was inside.
    const handovers: number[] = []
    for (const pid of pids) {
      const kill = events.find((event) => event.pid === pid && event.event === 'kill')!
      const last = visits.findLastIndex((visit) => visit.pid === pid)
      const next = visits[last + 1]
      if (visits[last]?.event === 'enter' && next) handovers.push((next.at - kill.at) / 1e6)
    }
    tell(`file lock, from SIGKILL of the holder until the next one is in, in ms: ${spread(handovers)}`)
    expect(handovers.length).toBeGreaterThan(pids.length / 3)
    // The death of a process with its memory takes the system some of this time, and on a busy machine now and then
    // much of it; so not the slowest counts.
    expect(quantile(handovers, 0.5)).toBeLessThan(50)
  })
})

describe('a holder that is stopped', () => {
  test('keeps its lock however long, and works on afterwards', async () => {
    const root = makeWorkspace()
    const path = join(root, 'a.lock')
    const number = join(root, 'number')
    const [holder, other] = (await Peer.startMany(2)) as [Peer, Peer]
    const done = holder.run(
      ({ driftlock, require, sleep }, { path, number }) =>
        driftlock.withFileLock(path, async () => {
          const fs = require('node:fs') as typeof import('node:fs')
          fs.writeFileSync(number, '1')
          for (let i = 0; i < 20; i++) await sleep(20)
          fs.writeFileSync(number, String(Number(fs.readFileSync(number, 'utf8')) + 1))
          return driftlock.acquireLock(path, { timeout: 0 })
        }),
      { path, number },
    )
    await until(() => {
      try {
        return readFileSync(number, 'utf8') === '1'
      } catch {
        return false
      }
    }, 'the holder is inside')
    holder.child.kill('SIGSTOP')
    const stopped = Date.now()
    // Longer than the default patience, and in the long form than the 30 s after which locks were once broken.
    const stop = scaled(33_000, 2500)
    const patient = withFileLock(path, () => readFileSync(number, 'utf8'), PATIENT)
    try {
      while (Date.now() - stopped < stop) {
        expect(await acquireLock(path, ONCE)).toBe(false)
        expect(
          await other.run(({ driftlock }, path) => driftlock.acquireLock(path, { timeout: 300, retryDelay: 10 }), path),
        ).toBe(false)
        await expect(withFileLock(path, () => 'in', { timeout: 200 })).rejects.toMatchObject({
          code: 'LOCK_NOT_ACQUIRED',
          message: `Failed to acquire lock: ${path}`,
        })
        if (stop > 10_000)
          expect(await other.run(({ driftlock }, path) => driftlock.acquireLock(path), path)).toBe(false)
        expect(JSON.parse(readFileSync(path, 'utf8'))).toMatchObject({ pid: holder.pid })
        expect(readFileSync(number, 'utf8')).toBe('1')
      }
    } finally {
      holder.child.kill('SIGCONT')
    }
    expect(await done).toBe(false) // still its own, and not re-entrant
    expect(await patient).toBe('2')
  })
})

describe('1,000 waiters in one process', () => {
  test.each(['nobody else', 'other processes that want it too'])(
    'with %s: are served in the order in which they came',
    async (company) => {
      const path = join(makeWorkspace(), 'a.lock')
      const rivals = company === 'nobody else' ? [] : await Peer.startMany(2)
      for (const rival of rivals) {
        rival
          .run(
            async ({ driftlock }, { path, options }) => {
              for (;;)
                await driftlock.withFileLock(path, () => new Promise((resolve) => setImmediate(resolve)), options)
            },
            { path, options: PATIENT },
          )
          .catch(() => {})
      }
      expect(await acquireLock(path, PATIENT)).toBe(true)
      const order: number[] = []
      const start = nanoseconds()
      const all = Array.from({ length: 1000 }, async (_, i) => {
        if (i % 2) {
          await withFileLock(path, () => order.push(i), PATIENT)
        } else {
          expect(await acquireLock(path, PATIENT)).toBe(true)
          order.push(i)
          await releaseLock(path)
        }
      })
      await sleep(50)
      expect(order).toEqual([])
      await releaseLock(path)
      await Promise.all(all)
      tell(`file lock, 1,000 waiters with ${company}: ${((nanoseconds() - start) / 1e6 - 50).toFixed(0)} ms`)
      expect(order).toEqual(Array.from({ length: 1000 }, (_, i) => i))
    },
  )
})
