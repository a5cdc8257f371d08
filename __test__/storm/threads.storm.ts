import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { PhaseLeaseManager } from '../../index.js'
import { Peer, packageEntry, runScript } from '../helpers/peer.js'
import { makeSpec } from '../helpers/shapes.js'
import { until } from '../helpers/wait.js'
import { ledgerPath, makeWorkspace, openDatabase, openLeases, readLines } from '../helpers/workspace.js'
import { checkAttestations, checkLedger } from './records.js'
import { quantile, scaled, spread, tell } from './weather.js'

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
    expect(ended).toMatchObject({ code: 0, signal: null, stdout: 'done\n', stderr: '' })
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
          if (!(await driftlock.acquireLock(`${root}/a.lock`, { timeout: 0 })))
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
