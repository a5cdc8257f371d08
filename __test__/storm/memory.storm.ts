import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { acquireLock, PhaseLedger, PromptAttestationManager, releaseLock } from '../../index.js'
import { runScript } from '../helpers/peer.js'
import { makeSpec } from '../helpers/shapes.js'
import { makeWorkspace, openLeases } from '../helpers/workspace.js'
import { checkAttestations, checkLedger } from './records.js'
import { isShort, scaled, tell } from './weather.js'

const LIMIT = 580_000

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
