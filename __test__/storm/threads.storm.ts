import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { acquireLock, PhaseLeaseManager, PhaseLedger, PromptAttestationManager, releaseLock } from '../../index.js'
import { Peer, packageEntry, runScript } from '../helpers/peer.js'
import { makeSpec } from '../helpers/shapes.js'
import { until } from '../helpers/wait.js'
import { ledgerPath, makeWorkspace, openDatabase, openLeases, readLines } from '../helpers/workspace.js'
import { checkAttestations, checkLedger } from './records.js'
import { isShort, quantile, scaled, spread, tell } from './weather.js'

const LIMIT = 580_000

describe('worker threads', () => {
  test('ended amid their operations: no crash, nothing lost, no lock left behind', async () => {
    const root = makeWorkspace()
    const log = join(root, 'acknowledged')
    writeFileSync(log, '')
    const ended = await runScript(
      async ({ driftlock, require, sleep }, { root, spec, entry, rounds, log }) => {
        const { Worker } = require('node:worker_threads') as typeof import('node:worker_threads')
        const fs = require('node:fs') as typeof import('node:fs')
        const source = `
          const { workerData: { root, name, spec, entry, log, isMain } } = require('node:worker_threads')
          const driftlock = require(entry)
          const fs = require('node:fs')
          ;(${work.toString()})({ driftlock, fs, root, name, spec, log, isDone: () => false })`
        async function work(input: {
          driftlock: typeof import('../../index.js')
          fs: typeof import('node:fs')
          root: string
          name: string
          spec: ReturnType<typeof makeSpec>
          log: string
          isDone: () => boolean
        }): Promise<void> {
          const { driftlock, fs, root, name, spec, log, isDone } = input
          const file = fs.openSync(log, 'a')
          const note = (...fields: string[]): void => {
            fs.writeSync(file, `${JSON.stringify(fields)}\n`)
          }
          const loops = [
            async (i: number) => {
              const manager = new driftlock.PhaseLeaseManager(root, { agentId: name })
              for (let j = 0; j < 10; j++) {
                const { acquired, reason } = await manager.acquireLease(`${name}-${i}-${j}`, 'SPEC')
                if (!acquired) note('error', String(reason))
                if (j % 2 && !(await manager.releaseLease(`${name}-${i}-${j}`, 'SPEC'))) note('error', 'not released')
                await manager.renewLease('shared', 'SPEC')
                await manager.acquireLease('shared', 'SPEC')
                await manager.releaseLease('shared', 'SPEC')
              }
              // Every second one is left to the garbage collector.
              if (i % 2) manager.close()
            },
            async (i: number) => {
              const manager = new driftlock.PromptAttestationManager(root)
              const tasks = Array.from({ length: 10 }, (_, j) => `${name}-${i}-${j}`)
              const answers = await Promise.all(tasks.map((taskId) => manager.attest({ ...spec, taskId })))
              for (const [j, { error }] of answers.entries())
                note(error === undefined ? 'attested' : 'error', error ?? tasks[j]!)
            },
            async (i: number) => {
              const ledger = new driftlock.PhaseLedger(root)
              await Promise.all(
                Array.from({ length: 10 }, async (_, j) => {
                  await ledger.appendTransition(`${name}-${i}-${j}`, null, 'SPEC', [], true)
                  note('appended', `${name}-${i}-${j}`)
                }),
              )
            },
            async () => {
              const options = { timeout: 60_000, retryDelay: 1000 }
              await driftlock.withFileLock(
                `${root}/a.lock`,
                async () => {
                  const number = Number(fs.readFileSync(`${root}/number`, 'utf8'))
                  await new Promise((resolve) => setImmediate(resolve))
                  // One write of a number of fixed length; a thread that ends, ends before it or after it.
                  const counter = fs.openSync(`${root}/number`, 'r+')
                  fs.writeSync(counter, String(number + 1).padStart(12), 0)
                  fs.closeSync(counter)
                  note('incremented', String(number + 1))
                },
                options,
              )
            },
          ]
          await Promise.all(
            loops.map(async (loop) => {
              for (let i = 0; !isDone(); i++) {
                await loop(i).catch((error) => note('error', String(error)))
                await new Promise((resolve) => setImmediate(resolve))
              }
            }),
          )
          fs.closeSync(file)
        }
        fs.writeFileSync(`${root}/number`, '0'.padStart(12))
        let done = false
        const mine = work({ driftlock, fs, root, name: 'main', spec, log, isDone: () => done })
        let started = 0
        const start = () =>
          new Worker(source, { eval: true, workerData: { root, spec, entry, log, name: `w${started++}` } })
        const workers = [start(), start(), start(), start()]
        for (const worker of workers) worker.on('error', (error) => console.error(error))
        for (let round = 0; round < rounds; round++) {
          await sleep(Math.random() * 150)
          const index = round % 4
          await workers[index]!.terminate()
          workers[index] = start()
          workers[index]!.on('error', (error) => console.error(error))
        }
        await sleep(200)
        await Promise.all(workers.map((worker) => worker.terminate()))
        done = true
        await mine
        // Nothing that the ended threads held is held.
        if (!(await driftlock.acquireLock(`${root}/a.lock`, { timeout: 0 })))
          console.error('the file lock is still held')
        await driftlock.releaseLock(`${root}/a.lock`)
        console.log('done')
      },
      { root, log, spec: makeSpec(), entry: packageEntry, rounds: scaled(100, 20) },
      { limit: LIMIT },
    )
    expect(ended).toMatchObject({ code: 0, signal: null, stdout: 'done\n' })
    // A thread that is ended just while its arguments are read can't tell that from arguments that can't be read.
    expect(
      ended.stderr.split('\n').filter((line) => line !== '' && !line.includes('A prompt could not be hashed')),
    ).toEqual([])
    const noted = readLines(log) as [string, string][]
    const all = (kind: string): string[] => noted.flatMap(([what, value]) => (what === kind ? [value] : []))
    tell(
      `threads: ${all('attested').length} attestations, ${all('appended').length} entries, ${all('incremented').length} locked increments`,
    )
    expect(all('error')).toEqual([])
    expect(all('incremented').length).toBeGreaterThan(20)
    expect(new Set(all('incremented')).size).toBe(all('incremented').length)
    // What an ended thread had asked for may have been done; what was acknowledged must be there.
    const attested = new Set(
      (readLines(join(root, 'state/process/prompt_attestations.jsonl')) as { task_id: string }[]).map(
        ({ task_id }) => task_id,
      ),
    )
    expect(all('attested').filter((task) => !attested.has(task))).toEqual([])
    expect(
      checkAttestations(root, new Map([...attested].map((task) => [`${task}:IMPLEMENT`, 1]))).slice(0, 20),
    ).toEqual([])
    const appended = new Set((readLines(ledgerPath(root)) as { task_id: string }[]).map(({ task_id }) => task_id))
    expect(all('appended').filter((task) => !appended.has(task))).toEqual([])
    expect(checkLedger(root, appended).slice(0, 20)).toEqual([])
    expect(openDatabase(root).pragma('integrity_check', { simple: true })).toBe('ok')
  })

  test('that end themselves amid a locked operation leave no lock', async () => {
    const root = makeWorkspace()
    const ended = await runScript(
      async ({ driftlock, require }, { root, entry, rounds }) => {
        const { Worker } = require('node:worker_threads') as typeof import('node:worker_threads')
        const source = `
          const { workerData: { root, entry, round } } = require('node:worker_threads')
          const driftlock = require(entry)
          driftlock.withFileLock(root + '/a.lock', () => {
            if (round % 2) process.exit(0)
            // Some have others waiting that will never be served.
            void driftlock.acquireLock(root + '/a.lock')
            setTimeout(() => process.exit(0), 5)
            return new Promise(() => {})
          }, { timeout: 0 }).catch((error) => { console.error(error) })`
        for (let round = 0; round < rounds; round++) {
          const worker = new Worker(source, { eval: true, workerData: { root, entry, round } })
          // Waits while the worker has it.
          await new Promise((resolve) => worker.once('online', resolve))
          await new Promise((resolve) => worker.once('exit', resolve))
          // The waiters of an ended thread leave the queue soon, not at once.
          const options = round % 2 ? { timeout: 0 } : { timeout: 5000 }
          if (!(await driftlock.acquireLock(`${root}/a.lock`, options)))
            throw new Error(`the lock of round ${round} is left behind`)
          await driftlock.releaseLock(`${root}/a.lock`)
        }
        console.log('done')
      },
      { root, entry: packageEntry, rounds: scaled(100, 20) },
      { limit: LIMIT },
    )
    expect(ended).toMatchObject({ code: 0, signal: null, stdout: 'done\n', stderr: '' })
  })

  test('that end while they wait or are being served take no lock from anybody', async () => {
    const ended = await runScript(
      async ({ driftlock, require }, { path, entry, seconds, options }) => {
        const { Worker } = require('node:worker_threads') as typeof import('node:worker_threads')
        const source = `
          const { workerData: { path, entry, options } } = require('node:worker_threads')
          const driftlock = require(entry)
          const loop = async () => { for (;;) await driftlock.withFileLock(path, () => 0, options) }
          for (let i = 0; i < 3; i++) loop()
          setTimeout(() => process.exit(0), Math.random() * 6)`
        const until = Date.now() + seconds * 1000
        let [robbed, entered, threads] = [0, 0, 0]
        const loop = async (): Promise<void> => {
          while (Date.now() < until) {
            await driftlock.withFileLock(
              path,
              async () => {
                entered++
                for (let i = 0; i < 3; i++) {
                  await new Promise((resolve) => setImmediate(resolve))
                  if (await driftlock.acquireLock(path, { timeout: 0 })) robbed++
                }
              },
              options,
            )
            await new Promise((resolve) => setImmediate(resolve))
          }
        }
        const endThreads = async (): Promise<void> => {
          for (; Date.now() < until; threads++) {
            const worker = new Worker(source, { eval: true, workerData: { path, entry, options } })
            await new Promise((resolve) => worker.once('exit', resolve))
          }
        }
        await Promise.all([loop(), loop(), endThreads(), endThreads(), endThreads()])
        console.log(
          JSON.stringify({ robbed, isFree: await driftlock.acquireLock(path, { timeout: 0 }), entered, threads }),
        )
      },
      {
        path: join(makeWorkspace(), 'a.lock'),
        entry: packageEntry,
        seconds: scaled(60, 8),
        options: { timeout: 120_000, retryDelay: 1000, maxRetries: 1_000_000 },
      },
      { limit: LIMIT },
    )
    expect(ended).toMatchObject({ code: 0, signal: null, stderr: '' })
    const { robbed, isFree, entered, threads } = JSON.parse(ended.stdout) as {
      robbed: number
      isFree: boolean
      entered: number
      threads: number
    }
    tell(`file lock: ${entered} times held while ${threads} threads that wanted it ended`)
    expect({ robbed, isFree }).toEqual({ robbed: 0, isFree: true })
    expect(threads).toBeGreaterThan(20)
    expect(entered).toBeGreaterThan(100)
  })
})

describe('process.exit() inside a locked operation', () => {
  test('frees the lock for the next one at once', async () => {
    const root = makeWorkspace()
    const path = join(root, 'a.lock')
    const waits: number[] = []
    const waiter = await Peer.start()
    for (let round = 0; round < scaled(40, 10); round++) {
      const holder = await Peer.start()
      const log = join(root, `exit-${round}`)
      holder
        .run(
          ({ driftlock, require, sleep }, { path, log, isSync }) =>
            driftlock.withFileLock(path, async () => {
              const fs = require('node:fs') as typeof import('node:fs')
              fs.writeFileSync(`${log}.inside`, '')
              await sleep(100)
              const exit = (): never => {
                fs.writeFileSync(log, String(process.hrtime.bigint()))
                process.exit(3)
              }
              if (isSync) exit()
              setImmediate(exit)
              return new Promise(() => {})
            }),
          { path, log, isSync: round % 2 === 0 },
        )
        .catch(() => {})
      await until(() => existsSync(`${log}.inside`), 'the holder is inside')
      const entered = await waiter.run(
        ({ driftlock }, path) =>
          driftlock.withFileLock(path, () => Number(process.hrtime.bigint()), { timeout: 20_000, maxRetries: 1e6 }),
        path,
      )
      await holder.exited
      expect(holder.child.exitCode).toBe(3)
      waits.push((entered - Number(readFileSync(log, 'utf8'))) / 1e6)
    }
    tell(`file lock, from process.exit() in the operation until the next one is in, in ms: ${spread(waits)}`)
    expect(Math.min(...waits)).toBeGreaterThan(0)
    expect(quantile(waits, 0.5)).toBeLessThan(50)
  })
})

describe('close() with operations in flight', () => {
  test('all are answered, and those made before it took effect', async () => {
    for (let round = 0; round < scaled(50, 10); round++) {
      const root = makeWorkspace()
      const manager = new PhaseLeaseManager(root, { agentId: 'closer' })
      const acquired = Array.from({ length: 300 }, (_, i) => manager.acquireLease(`T${i}`, 'SPEC'))
      const renewed = Array.from({ length: 300 }, (_, i) => manager.renewLease(`T${i}`, 'SPEC'))
      const released = Array.from({ length: 100 }, (_, i) => manager.releaseLease(`T${i}`, 'SPEC'))
      manager.close()
      const late = manager.acquireLease('LATE', 'SPEC')
      expect((await Promise.all(acquired)).filter(({ acquired }) => !acquired)).toEqual([])
      expect((await Promise.all(renewed)).filter(({ renewed }) => !renewed)).toEqual([])
      expect((await Promise.all(released)).filter((released) => !released)).toEqual([])
      expect(await late).toMatchObject({ acquired: false, reason: expect.stringMatching(/^Internal error: /) })
      const other = openLeases(root, { agentId: 'closer' })
      expect(await other.getStats()).toMatchObject({ totalLeases: 200, maxRenewals: 1 })
      other.close()
    }
  })

  test('while others use the same database, and in any order', async () => {
    const root = makeWorkspace()
    const stays = openLeases(root, { agentId: 'stays' })
    for (let round = 0; round < scaled(300, 60); round++) {
      const managers = Array.from({ length: 5 }, (_, i) => new PhaseLeaseManager(root, { agentId: `m${i}` }))
      const answers = managers.flatMap((manager, i) =>
        Array.from({ length: 20 }, (_, j) => manager.acquireLease(`${round}-${i}-${j}`, 'SPEC')),
      )
      const kept = Array.from({ length: 20 }, (_, j) => stays.acquireLease(`${round}-stays-${j}`, 'SPEC'))
      for (const manager of round % 2 ? managers.reverse() : managers) manager.close()
      expect((await Promise.all(answers)).filter(({ acquired }) => !acquired)).toEqual([])
      expect((await Promise.all(kept)).filter(({ acquired }) => !acquired)).toEqual([])
      await stays.releaseAllLeases()
    }
  })
})

interface Growth {
  rss: number
  descriptors: number
  cycles: number
  seconds: number
  left: string[]
}

/** Runs `cycle` again and again in a process of its own, and tells by how much that has grown. */
async function grow(kind: string, root: string, cycles: number): Promise<Growth> {
  const ended = await runScript(
    async ({ driftlock, require, sleep }, { kind, root, cycles, spec }) => {
      const fs = require('node:fs') as typeof import('node:fs')
      const { setFlagsFromString } = require('node:v8') as typeof import('node:v8')
      const { runInNewContext } = require('node:vm') as typeof import('node:vm')
      setFlagsFromString('--expose-gc')
      const gc = runInNewContext('gc') as () => void
      const leak: Buffer[] = []
      const kinds: Record<string, (i: number) => unknown> = {
        'holdsLease and close()': () => {
          const manager = new driftlock.PhaseLeaseManager(root)
          manager.holdsLease('T', 'SPEC')
          manager.close()
        },
        'a lease and close()': async (i) => {
          const manager = new driftlock.PhaseLeaseManager(root)
          await manager.acquireLease(`T${i % 10}`, 'SPEC')
          await manager.releaseLease(`T${i % 10}`, 'SPEC')
          manager.close()
        },
        'a lease beside an open manager': async (i) => {
          const manager = new driftlock.PhaseLeaseManager(root)
          await manager.acquireLease(`T${i % 10}`, 'SPEC')
          await manager.releaseLease(`T${i % 10}`, 'SPEC')
          manager.close()
        },
        'a lease without close()': async (i) => {
          const manager = new driftlock.PhaseLeaseManager(root)
          await manager.acquireLease(`T${i % 10}`, 'SPEC')
          await manager.releaseLease(`T${i % 10}`, 'SPEC')
        },
        attest: (i) => new driftlock.PromptAttestationManager(root).attest({ ...spec, taskId: `T${i % 10}` }),
        append: (i) => new driftlock.PhaseLedger(root).appendTransition(`T${i % 10}`, null, 'SPEC', [], true),
        withFileLock: (i) => driftlock.withFileLock(`${root}/${i % 10}.lock`, () => i),
        'a leak of 1 kB': () => leak.push(Buffer.alloc(1024, 1)),
      }
      const cycle = kinds[kind]!
      if (kind.includes('beside')) Object.assign(globalThis, { kept: new driftlock.PhaseLeaseManager(root) })
      const run = async (count: number): Promise<void> => {
        for (let i = 0; i < count; i++) {
          await cycle(i)
          // Objects are finalized between turns of the event loop.
          if (i % 50 === 49) await new Promise((resolve) => setImmediate(resolve))
        }
      }
      const measure = async () => {
        for (let i = 0; i < 4; i++) {
          gc()
          await sleep(50)
        }
        const descriptors = fs.readdirSync('/proc/self/fd').map((fd) => {
          try {
            return fs.readlinkSync(`/proc/self/fd/${fd}`)
          } catch {
            return ''
          }
        })
        return { rss: process.memoryUsage.rss(), descriptors: descriptors.filter((path) => path.startsWith(root)) }
      }
      await run(cycles / 10)
      const before = await measure()
      const start = Date.now()
      await run(cycles)
      const seconds = (Date.now() - start) / 1000
      const after = await measure()
      console.log(
        JSON.stringify({
          rss: (after.rss - before.rss) / 1e6,
          descriptors: after.descriptors.length - before.descriptors.length,
          cycles,
          seconds,
          left: after.descriptors,
        }),
      )
    },
    { kind, root, cycles, spec: makeSpec() },
    // A young generation of its final size from the beginning: it is not what is measured.
    { limit: LIMIT, env: { NODE_OPTIONS: '--max-semi-space-size=1', DRIFTLOCK_LOG: 'error' } },
  )
  expect(ended).toMatchObject({ code: 0, signal: null, stderr: '' })
  return JSON.parse(ended.stdout) as Growth
}

describe.runIf(process.platform === 'linux')('memory and descriptors', () => {
  test.each([
    'holdsLease and close()',
    'a lease and close()',
    'a lease beside an open manager',
    'a lease without close()',
    'attest',
    'append',
    'withFileLock',
  ])('do not grow with %s', async (kind) => {
    // The last one to close a database folds its log into it and syncs the disk, each time.
    const most = kind === 'a lease and close()' ? scaled(10_000, 1000) : scaled(100_000, 10_000)
    const { rss, descriptors, cycles, seconds, left } = await grow(kind, makeWorkspace(), most)
    tell(
      `memory, ${cycles} × ${kind}: ${rss.toFixed(1)} MB more, ${left.length} descriptors; ${((seconds / cycles) * 1e6).toFixed(0)} µs each`,
    )
    expect(rss).toBeLessThan(10)
    expect(descriptors).toBe(0)
    if (!kind.includes('beside')) expect(left).toEqual([])
  })

  test('a leak is found', async () => {
    expect((await grow('a leak of 1 kB', makeWorkspace(), scaled(100_000, 20_000))).rss).toBeGreaterThan(10)
  })

  test('no descriptor stays of many workspaces, closed or dropped', async () => {
    const ended = await runScript(
      async ({ driftlock, require, sleep }, { base, count, spec }) => {
        const fs = require('node:fs') as typeof import('node:fs')
        const { setFlagsFromString } = require('node:v8') as typeof import('node:v8')
        const { runInNewContext } = require('node:vm') as typeof import('node:vm')
        setFlagsFromString('--expose-gc')
        const gc = runInNewContext('gc') as () => void
        for (let i = 0; i < count; i++) {
          const root = `${base}/${i}`
          fs.mkdirSync(root)
          const leases = new driftlock.PhaseLeaseManager(root)
          await leases.acquireLease('T', 'SPEC')
          await new driftlock.PromptAttestationManager(root).attest(spec)
          await new driftlock.PhaseLedger(root).appendTransition('T', null, 'SPEC', [], true)
          await driftlock.withFileLock(`${root}/a.lock`, () => 0)
          if (i % 2) leases.close()
          if (i % 20 === 0) {
            gc()
            await sleep(10)
          }
        }
        let left: string[] = []
        for (let i = 0; i < 20; i++) {
          gc()
          await sleep(100)
          left = fs.readdirSync('/proc/self/fd').flatMap((fd) => {
            try {
              return fs.readlinkSync(`/proc/self/fd/${fd}`)
            } catch {
              return []
            }
          })
          left = left.filter((path) => path.startsWith(base))
          if (left.length === 0) break
        }
        console.log(JSON.stringify(left.slice(0, 10)))
      },
      { base: makeWorkspace(), count: scaled(1000, 200), spec: makeSpec() },
      { limit: LIMIT },
    )
    expect(ended).toMatchObject({ code: 0, signal: null, stdout: '[]\n', stderr: '' })
  })

  test('managers in numbers, dropped without close(): no crash, and another thread goes on', async () => {
    const root = makeWorkspace()
    const ended = await runScript(
      async ({ driftlock, require, sleep }, { root, rounds, spec }) => {
        const { setFlagsFromString } = require('node:v8') as typeof import('node:v8')
        const { runInNewContext } = require('node:vm') as typeof import('node:vm')
        setFlagsFromString('--expose-gc')
        const gc = runInNewContext('gc') as () => void
        for (let round = 0; round < rounds; round++) {
          const answers = Array.from({ length: 50 }, (_, i) => [
            // Called, not awaited, and dropped while the call still waits for its turn.
            new driftlock.PhaseLeaseManager(root).acquireLease(`T${round}-${i}`, 'SPEC'),
            new driftlock.PromptAttestationManager(root).attest({ ...spec, taskId: `T${round}-${i}` }),
            new driftlock.PhaseLedger(root).appendTransition(`T${round}-${i}`, null, 'SPEC', [], true),
          ]).flat()
          gc()
          await sleep(0)
          gc()
          for (const answer of await Promise.all(answers)) {
            if (('acquired' in answer && !answer.acquired) || ('error' in answer && answer.error !== undefined))
              console.error(answer)
          }
        }
        console.log('done')
      },
      { root, rounds: isShort ? 20 : 200, spec: makeSpec() },
      { limit: LIMIT },
    )
    expect(ended).toMatchObject({ code: 0, signal: null, stdout: 'done\n', stderr: '' })
    const keys = new Map(
      Array.from({ length: (isShort ? 20 : 200) * 50 }, (_, i) => [`T${Math.floor(i / 50)}-${i % 50}:IMPLEMENT`, 1]),
    )
    expect(checkAttestations(root, keys).slice(0, 20)).toEqual([])
    expect(
      checkLedger(
        root,
        [...keys.keys()].map((key) => key.split(':')[0]!),
      ).slice(0, 20),
    ).toEqual([])
    expect(openLeases(root).getLease('T0-0', 'SPEC')).not.toBeNull()
    expect(await acquireLock(join(root, 'a.lock'), { timeout: 0 })).toBe(true)
    await releaseLock(join(root, 'a.lock'))
    expect((await new PromptAttestationManager(root).attest(makeSpec())).error).toBeUndefined()
    expect(await new PhaseLedger(root).verify()).toMatchObject({ valid: true })
  })
})
