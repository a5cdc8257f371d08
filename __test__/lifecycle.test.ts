import { existsSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { describe, expect, test } from 'vitest'
import { acquireLock, PhaseLedger, PromptAttestationManager, releaseLock, withFileLock } from '../index.js'
import { packageEntry, runNode, runScript } from './helpers/peer.js'
import { makeSpec } from './helpers/shapes.js'
import { sleep } from './helpers/wait.js'
import {
  attestationsPath,
  ledgerPath,
  makeWorkspace,
  openDatabase,
  openLeases,
  readBaselines,
  readLines,
  snapshot,
} from './helpers/workspace.js'

describe('the package', () => {
  const names = [
    'PhaseLeaseManager',
    'PromptAttestationManager',
    'PhaseLedger',
    'acquireLock',
    'releaseLock',
    'withFileLock',
    'DriftlockError',
  ]

  test('is imported by name from an ES module', async () => {
    const source = `import { ${names.join(', ')} } from ${JSON.stringify(`file://${packageEntry}`)}
      console.log([${names.join(', ')}].every((found) => typeof found === 'function'))`
    expect(await runNode(['--input-type=module', '--eval', source])).toMatchObject({
      code: 0,
      stdout: 'true\n',
      stderr: '',
    })
  })

  test('is required by name from CommonJS', async () => {
    const source = `const { ${names.join(', ')} } = require(${JSON.stringify(packageEntry)})
      console.log([${names.join(', ')}].every((found) => typeof found === 'function'))`
    expect(await runNode(['--input-type=commonjs', '--eval', source])).toMatchObject({
      code: 0,
      stdout: 'true\n',
      stderr: '',
    })
  })
})

describe('no open object keeps Node alive', () => {
  test('neither leases, nor locks, nor loggers, nor the others', async () => {
    const ended = await runScript(
      async ({ driftlock }, { root, spec }) => {
        driftlock.setLogger(() => {})
        const kept = [
          new driftlock.PhaseLeaseManager(root),
          new driftlock.PhaseLeaseManager(root),
          new driftlock.PhaseLedger(root),
        ] as const
        await kept[0].acquireLease('T', 'SPEC')
        await kept[1].acquireLease('T', 'SPEC')
        await kept[2].appendTransition('T', null, 'SPEC', [], true)
        await new driftlock.PromptAttestationManager(root).attest(spec)
        await driftlock.acquireLock(`${root}/a.lock`)
        Object.assign(globalThis, { kept })
        console.log('done')
      },
      { root: makeWorkspace(), spec: makeSpec() },
    )
    expect(ended).toMatchObject({ code: 0, signal: null, stdout: 'done\n', stderr: '' })
  })

  test('but a call that waits does, until it is answered', async () => {
    const ended = await runScript(async ({ driftlock }, root) => {
      await driftlock.acquireLock(`${root}/a.lock`)
      console.log(await driftlock.acquireLock(`${root}/a.lock`, { timeout: 200 }))
    }, makeWorkspace())
    expect(ended).toMatchObject({ code: 0, stdout: 'false\n' })
  })

  test('what was asked last is done before the end', async () => {
    const root = makeWorkspace()
    const ended = await runScript(
      ({ driftlock }, { root, specs }) => {
        const manager = new driftlock.PromptAttestationManager(root)
        for (const spec of specs) void manager.attest(spec)
      },
      { root, specs: Array.from({ length: 50 }, (_, i) => makeSpec({ taskId: `T${i}` })) },
    )
    expect(ended.code).toBe(0)
    expect(readLines(attestationsPath(root))).toHaveLength(50)
  })
})

describe('afterwards', () => {
  test('nothing is written after close()', async () => {
    const root = makeWorkspace()
    const [one, two] = [openLeases(root, { agentId: 'one' }), openLeases(root, { agentId: 'two' })]
    for (let i = 0; i < 50; i++) {
      await one.acquireLease(`T${i}`, 'SPEC')
      await two.acquireLease(`T${i}`, 'SPEC')
      if (i % 2) await one.releaseLease(`T${i}`, 'SPEC')
    }
    one.close()
    two.close()
    const before = snapshot(root)
    await sleep(1500)
    expect(snapshot(root)).toEqual(before)
  })

  test('the workspace may be removed right after close(), and stays away', async () => {
    for (let round = 0; round < 5; round++) {
      const root = makeWorkspace()
      const leases = openLeases(root)
      const attestations = new PromptAttestationManager(root)
      const ledger = new PhaseLedger(root)
      await Promise.all([
        ...Array.from({ length: 20 }, (_, i) => leases.acquireLease(`T${i}`, 'SPEC')),
        ...Array.from({ length: 20 }, (_, i) => attestations.attest(makeSpec({ taskId: `T${i}` }))),
        ...Array.from({ length: 20 }, () => ledger.appendTransition('T', null, 'SPEC', [], true)),
        withFileLock(join(root, 'a.lock'), () => Promise.resolve()),
      ])
      await leases.acquireLease('T0', 'SPEC')
      leases.close()
      rmSync(root, { recursive: true })
      await sleep(round === 4 ? 1500 : 50)
      expect(existsSync(root)).toBe(false)
    }
  })

  test('a workspace at the same place is a new one', async () => {
    const root = makeWorkspace()
    for (let round = 0; round < 3; round++) {
      const leases = openLeases(root)
      expect((await leases.acquireLease('T', 'SPEC')).acquired).toBe(true)
      const attestations = new PromptAttestationManager(root)
      await attestations.initialize()
      expect((await attestations.attest(makeSpec({ contextSummary: `${round}` }))).baselineHash).toBeUndefined()
      const ledger = new PhaseLedger(root)
      expect((await ledger.appendTransition('T', null, 'SPEC', [], true)).previous_hash).toBe('genesis')
      expect(await acquireLock(join(root, 'state', 'a.lock'), { timeout: 0 })).toBe(true)
      await releaseLock(join(root, 'state', 'a.lock'))
      leases.close()
      rmSync(join(root, 'state'), { recursive: true })
    }
  })
})

describe('worker threads', () => {
  /** Runs `source` in a worker that has `driftlock`, `input` and `answer`. */
  function inWorker(source: string, input: unknown): { worker: Worker; answer: Promise<unknown> } {
    const worker = new Worker(
      `const { parentPort, workerData: input } = require('node:worker_threads')
       const driftlock = require(${JSON.stringify(packageEntry)})
       const answer = (value) => parentPort.postMessage(value);
       (async () => { ${source} })().catch((error) => { throw error })`,
      { eval: true, workerData: input },
    )
    const answer = new Promise((resolve, reject) => {
      worker.once('message', resolve)
      worker.once('error', reject)
    })
    answer.catch(() => {})
    return { worker, answer }
  }

  test('share a workspace with the main thread', async () => {
    const root = makeWorkspace()
    const leases = openLeases(root, { agentId: 'main' })
    const source = `
      const leases = new driftlock.PhaseLeaseManager(input.root, { agentId: 'worker-' + input.number })
      const attestations = new driftlock.PromptAttestationManager(input.root)
      const ledger = new driftlock.PhaseLedger(input.root)
      let won = 0
      for (let i = 0; i < 50; i++) {
        if ((await leases.acquireLease('T' + i, 'SPEC')).acquired) won++
        await attestations.attest({ ...input.spec, taskId: input.number + '-' + i })
        await ledger.appendTransition('T', null, 'SPEC', [], true)
      }
      leases.close()
      answer(won)`
    const workers = [1, 2, 3].map((number) => inWorker(source, { root, number, spec: makeSpec() }))
    let won = 0
    for (let i = 49; i >= 0; i--) if ((await leases.acquireLease(`T${i}`, 'SPEC')).acquired) won++
    for (const { answer } of workers) won += (await answer) as number
    await Promise.all(workers.map(({ worker }) => worker.terminate()))
    expect(won).toBe(50)
    expect(Object.keys(readBaselines(root))).toHaveLength(150)
    expect(readLines(ledgerPath(root))).toHaveLength(150)
    expect(await new PhaseLedger(root).verify()).toMatchObject({ valid: true })
    expect((await leases.acquireLease('AFTER', 'SPEC')).acquired).toBe(true)
    expect(openDatabase(root).pragma('integrity_check', { simple: true })).toBe('ok')
  })

  test('one that is terminated amid its calls harms nobody', async () => {
    const root = makeWorkspace()
    const leases = openLeases(root)
    for (let round = 0; round < 4; round++) {
      const { worker, answer } = inWorker(
        `const leases = new driftlock.PhaseLeaseManager(input.root)
         const attestations = new driftlock.PromptAttestationManager(input.root)
         driftlock.setLogger(() => {})
         for (let i = 0; ; i++) {
           await Promise.all([
             leases.acquireLease('R' + input.round + '-' + i, 'SPEC'),
             attestations.attest({ ...input.spec, taskId: 'R' + input.round + '-' + i }),
           ])
           if (i === 5) answer('busy')
         }`,
        { root, round, spec: makeSpec() },
      )
      expect(await answer).toBe('busy')
      await worker.terminate()
      expect((await leases.acquireLease(`AFTER-${round}`, 'SPEC')).acquired).toBe(true)
      expect(
        (await new PromptAttestationManager(root).attest(makeSpec({ taskId: `AFTER-${round}` }))).error,
      ).toBeUndefined()
    }
  })

  test('one worker’s lock keeps the other threads out', async () => {
    const path = join(makeWorkspace(), 'a.lock')
    const { worker, answer } = inWorker(
      `answer(await driftlock.acquireLock(input))
       setInterval(() => {}, 1000)`,
      path,
    )
    expect(await answer).toBe(true)
    expect(await acquireLock(path, { timeout: 0 })).toBe(false)
    await worker.terminate()
  })
})

describe('process.exit() in the middle of it all', () => {
  test.each([0, 1, 5, 20])('after %i ms: no crash, and the next process goes on', async (ms) => {
    const root = makeWorkspace()
    openLeases(root).close()
    const ended = await runScript(
      ({ driftlock }, { root, spec, ms }) => {
        const leases = new driftlock.PhaseLeaseManager(root)
        const attestations = new driftlock.PromptAttestationManager(root)
        const ledger = new driftlock.PhaseLedger(root)
        driftlock.setLogger(() => {})
        void driftlock.withFileLock(`${root}/a.lock`, () => new Promise(() => {}))
        void driftlock.acquireLock(`${root}/a.lock`)
        for (let i = 0; i < 200; i++) {
          void leases.acquireLease(`T${i}`, 'SPEC')
          void attestations.attest({ ...spec, taskId: `T${i}` })
          void ledger.appendTransition('T', null, 'SPEC', [], true)
        }
        if (ms === 0) process.exit(7)
        setTimeout(() => process.exit(7), ms)
      },
      { root, spec: makeSpec(), ms },
    )
    expect(ended).toMatchObject({ code: 7, signal: null })
    expect((await openLeases(root).acquireLease('AFTER', 'SPEC')).acquired).toBe(true)
    expect((await new PromptAttestationManager(root).attest(makeSpec())).error).toBeUndefined()
    await new PhaseLedger(root).appendTransition('AFTER', null, 'SPEC', [], true)
    expect(await new PhaseLedger(root).verify()).toMatchObject({ valid: true })
    expect(await acquireLock(join(root, 'a.lock'), { timeout: 0 })).toBe(true)
    await releaseLock(join(root, 'a.lock'))
  })
})
