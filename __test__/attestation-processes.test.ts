import { describe, expect, test } from 'vitest'
import { PromptAttestationManager } from '../index.js'
import { promptHash } from './helpers/hashes.js'
import { Peer } from './helpers/peer.js'
import { makeSpec } from './helpers/shapes.js'
import { attestationsPath, makeWorkspace, readBaselines, readLines } from './helpers/workspace.js'

describe('at the same time', () => {
  test('1,000 in one process: every record, every baseline, in order', async () => {
    const root = makeWorkspace()
    const manager = new PromptAttestationManager(root)
    await manager.initialize()
    const answers = await Promise.all(
      Array.from({ length: 1000 }, (_, i) => manager.attest(makeSpec({ taskId: `T${i}` }))),
    )
    expect(answers.every(({ hasDrift, error }) => !hasDrift && error === undefined)).toBe(true)
    const records = readLines(attestationsPath(root))
    expect(records.map(({ task_id }) => task_id)).toEqual(Array.from({ length: 1000 }, (_, i) => `T${i}`))
    expect(new Set(records.map(({ attestation_id }) => attestation_id)).size).toBe(1000)
    expect(Object.keys(readBaselines(root))).toHaveLength(1000)
  })

  test('the same task at once: the first call made sets the baseline', async () => {
    const root = makeWorkspace()
    const [one, two] = [new PromptAttestationManager(root), new PromptAttestationManager(root)]
    await one.initialize()
    const answers = await Promise.all(
      Array.from({ length: 50 }, (_, i) => (i % 2 ? two : one).attest(makeSpec({ contextSummary: `${i}` }))),
    )
    const first = answers.filter(({ baselineHash }) => baselineHash === undefined)
    expect(first).toHaveLength(1)
    for (const { hasDrift, baselineHash } of answers)
      if (baselineHash)
        expect({ hasDrift, baselineHash }).toEqual({ hasDrift: true, baselineHash: first[0]?.currentHash })
  })

  test('8 processes with 100 tasks each: every record, every baseline', async () => {
    const root = makeWorkspace()
    const peers = await Peer.startMany(8)
    const failures = await Promise.all(
      peers.map((peer, number) =>
        peer.run(
          async ({ driftlock }, { root, specs }) => {
            const manager = new driftlock.PromptAttestationManager(root)
            await manager.initialize()
            const failed: unknown[] = []
            for (const spec of specs) {
              const answer = await manager.attest(spec)
              if (answer.hasDrift || answer.error !== undefined) failed.push(answer)
            }
            return failed
          },
          { root, specs: Array.from({ length: 100 }, (_, i) => makeSpec({ taskId: `P${number}-${i}` })) },
        ),
      ),
    )
    expect(failures.flat()).toEqual([])
    const records = readLines(attestationsPath(root))
    expect(new Set(records.map(({ task_id }) => task_id)).size).toBe(800)
    expect(records).toHaveLength(800)
    const baselines = readBaselines(root)
    expect(Object.keys(baselines)).toHaveLength(800)
    for (const { task_id, prompt_hash } of records) {
      expect(baselines[`${task_id}:IMPLEMENT`].hash).toBe(prompt_hash)
      expect(prompt_hash).toBe(promptHash(makeSpec({ taskId: task_id })))
    }
  })

  test('8 processes with the same 20 tasks: each task has one first', async () => {
    const root = makeWorkspace()
    const peers = await Peer.startMany(8)
    const answers = (
      await Promise.all(
        peers.map((peer, number) =>
          peer.run(
            ({ driftlock }, { root, specs }) => {
              const manager = new driftlock.PromptAttestationManager(root)
              return Promise.all(specs.map(async (spec) => ({ taskId: spec.taskId, ...(await manager.attest(spec)) })))
            },
            {
              root,
              specs: Array.from({ length: 20 }, (_, i) =>
                makeSpec({ taskId: `T${i}`, contextSummary: `process ${number}` }),
              ),
            },
          ),
        ),
      )
    ).flat()
    const baselines = readBaselines(root)
    const records = readLines(attestationsPath(root))
    expect(records).toHaveLength(160)
    for (let i = 0; i < 20; i++) {
      const mine = answers.filter(({ taskId }) => taskId === `T${i}`)
      const firsts = mine.filter(({ baselineHash }) => baselineHash === undefined)
      expect(firsts).toHaveLength(1)
      expect(baselines[`T${i}:IMPLEMENT`].hash).toBe(firsts[0]?.currentHash)
      expect(
        mine.filter(({ baselineHash, hasDrift }) => hasDrift && baselineHash === firsts[0]?.currentHash),
      ).toHaveLength(7)
      const lines = records.filter(({ task_id }) => task_id === `T${i}`)
      expect(lines.map(({ baseline_hash }) => baseline_hash === undefined)).toEqual([
        true,
        ...Array<boolean>(7).fill(false),
      ])
    }
  })

  test('resets from many processes: no version is lost', async () => {
    const root = makeWorkspace()
    const peers = await Peer.startMany(4)
    await Promise.all(
      peers.map((peer, number) =>
        peer.run(
          async ({ driftlock }, { root, number }) => {
            const manager = new driftlock.PromptAttestationManager(root)
            for (let i = 0; i < 25; i++) await manager.resetBaseline('T', 'SPEC', `hash-${number}-${i}`)
          },
          { root, number },
        ),
      ),
    )
    expect(readBaselines(root)['T:SPEC'].version).toBe(100)
  })

  test('readers never see a file that isn’t valid', async () => {
    const root = makeWorkspace()
    const peer = await Peer.start()
    const manager = new PromptAttestationManager(root)
    await manager.initialize()
    let done = false
    const writing = peer
      .run(
        async ({ driftlock }, { root, spec }) => {
          const manager = new driftlock.PromptAttestationManager(root)
          for (let i = 0; i < 300; i++) await manager.attest({ ...spec, taskId: `T${i}` })
        },
        { root, spec: makeSpec() },
      )
      .finally(() => (done = true))
    let seen = 0
    while (!done) {
      const count = Object.keys(readBaselines(root)).length
      expect(count).toBeGreaterThanOrEqual(seen)
      seen = count
      expect(await manager.getAttestationHistory('NOBODY')).toEqual([])
      await new Promise((resolve) => setTimeout(resolve, 1))
    }
    await writing
    expect(Object.keys(readBaselines(root))).toHaveLength(300)
  })

  test('each sees the other’s baselines and records at once', async () => {
    const root = makeWorkspace()
    const manager = new PromptAttestationManager(root)
    await manager.initialize()
    const peer = await Peer.start()
    for (let i = 0; i < 10; i++) {
      const spec = makeSpec({ taskId: `T${i}` })
      await peer.run(
        async ({ driftlock, kept }, { root, spec }) => {
          kept.manager ??= new driftlock.PromptAttestationManager(root)
          await kept.manager.attest(spec)
        },
        { root, spec },
      )
      expect((await manager.attest({ ...spec, contextSummary: 'other' })).baselineHash).toBe(promptHash(spec))
      expect(await manager.getAttestationHistory(`T${i}`)).toHaveLength(2)
      await manager.resetBaseline(`T${i}`, 'IMPLEMENT', 'abc')
      expect(
        await peer.run(async ({ kept }, spec) => (await kept.manager.attest(spec)).baselineHash as string, spec),
      ).toBe('abc')
    }
  })

  test('killed amid its writes: what was answered is there', async () => {
    const root = makeWorkspace()
    const manager = new PromptAttestationManager(root)
    await manager.initialize()
    for (let round = 0; round < 4; round++) {
      const peer = await Peer.start()
      peer
        .run(
          async ({ driftlock }, { root, spec, round }) => {
            const manager = new driftlock.PromptAttestationManager(root)
            for (let i = 0; ; i++) await manager.attest({ ...spec, taskId: `R${round}-${i}` })
          },
          { root, spec: makeSpec(), round },
        )
        .catch(() => {})
      while ((await manager.getAttestationHistory(`R${round}-${30 + round * 7}`)).length === 0)
        await new Promise((resolve) => setTimeout(resolve, 1))
      await peer.kill()
      expect((await manager.attest(makeSpec({ taskId: `AFTER-${round}` }))).error).toBeUndefined()
    }
    const baselines = readBaselines(root)
    const stats = await manager.getDriftStats()
    // A kill may come between the record and its baseline, but only for the last record of each.
    expect(stats.totalAttestations - Object.keys(baselines).length).toBeLessThanOrEqual(4)
    expect(stats.driftDetections).toBe(0)
  })
})
