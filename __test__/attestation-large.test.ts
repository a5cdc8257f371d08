// Big files are written in another way than small ones: the promises are the same.
import { appendFileSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { PromptAttestationManager } from '../index.js'
import { promptHash } from './helpers/hashes.js'
import { Peer } from './helpers/peer.js'
import { makeSpec } from './helpers/shapes.js'
import { sleep } from './helpers/wait.js'
import {
  attestationsPath,
  baselinesPath,
  makeWorkspace,
  processPath,
  readBaselines,
  readLines,
} from './helpers/workspace.js'

const COUNT = 12_000
const hashOf = (i: number): string => promptHash(makeSpec({ taskId: `BIG-${i}` }))

/** A workspace with well over a megabyte of baselines. */
function bigWorkspace(indent?: number): string {
  const root = makeWorkspace()
  mkdirSync(processPath(root), { recursive: true })
  const entries = Array.from({ length: COUNT }, (_, i) => [
    `BIG-${i}:IMPLEMENT`,
    { hash: hashOf(i), version: 1, updatedAt: '2026-01-01T00:00:00.000Z' },
  ])
  writeFileSync(baselinesPath(root), JSON.stringify(Object.fromEntries(entries), null, indent))
  expect(statSync(baselinesPath(root)).size).toBeGreaterThan(1_300_000)
  return root
}

describe.each([
  ['compact', undefined],
  ['pretty printed', 2],
])('a big baselines file, %s', (_, indent) => {
  test('knows the old entries, takes new ones, and is valid after each call', async () => {
    const root = bigWorkspace(indent)
    const manager = new PromptAttestationManager(root)
    await manager.initialize()
    expect(await manager.attest(makeSpec({ taskId: 'BIG-7' }))).toMatchObject({
      hasDrift: false,
      baselineHash: hashOf(7),
    })
    expect(await manager.attest(makeSpec({ taskId: 'BIG-11999', contextSummary: 'other' }))).toMatchObject({
      hasDrift: true,
      baselineHash: hashOf(11_999),
    })
    for (let i = 0; i < 20; i++) {
      expect((await manager.attest(makeSpec({ taskId: `NEW-${i}` }))).baselineHash).toBeUndefined()
      if (i % 5 === 0)
        expect(readBaselines(root)[`NEW-${i}:IMPLEMENT`]).toMatchObject({
          hash: promptHash(makeSpec({ taskId: `NEW-${i}` })),
          version: 1,
        })
    }
    expect(Object.keys(readBaselines(root))).toHaveLength(COUNT + 20)
  })

  test('takes resets, longer than what was there', async () => {
    const root = bigWorkspace(indent)
    const manager = new PromptAttestationManager(root)
    for (let i = 0; i < 6; i++) {
      await manager.resetBaseline(`BIG-${i}`, 'IMPLEMENT', `hash-${i}`, {
        updatedBy: 'somebody',
        reason: 'a long reason '.repeat(20 * i),
        versionTag: 'v2',
      })
      expect(readBaselines(root)[`BIG-${i}:IMPLEMENT`]).toMatchObject({
        hash: `hash-${i}`,
        version: 2,
        versionTag: 'v2',
      })
    }
    expect((await new PromptAttestationManager(root).attest(makeSpec({ taskId: 'BIG-3' }))).baselineHash).toBe('hash-3')
    expect(Object.keys(readBaselines(root))).toHaveLength(COUNT)
  })

  test('shows a person’s edits at the next call', async () => {
    const root = bigWorkspace(indent)
    const manager = new PromptAttestationManager(root)
    await manager.attest(makeSpec({ taskId: 'BIG-5' }))
    await manager.attest(makeSpec({ taskId: 'NEW' }))
    for (const task of ['BIG-5', 'NEW']) {
      await sleep(20)
      const hash = promptHash(makeSpec({ taskId: task }))
      writeFileSync(baselinesPath(root), readFileSync(baselinesPath(root), 'utf8').replace(hash, 'f'.repeat(64)))
      expect((await manager.attest(makeSpec({ taskId: task }))).baselineHash).toBe('f'.repeat(64))
    }
  })
})

test('several processes fill one big file', async () => {
  const root = bigWorkspace()
  const peers = await Peer.startMany(4)
  await Promise.all(
    peers.map((peer, number) =>
      peer.run(
        async ({ driftlock }, { root, specs }) => {
          const manager = new driftlock.PromptAttestationManager(root)
          for (const spec of specs) {
            const { hasDrift, error } = await manager.attest(spec)
            if (hasDrift || error) throw new Error(error ?? `drift of ${spec.taskId}`)
          }
        },
        { root, specs: Array.from({ length: 40 }, (_, i) => makeSpec({ taskId: `P${number}-${i}` })) },
      ),
    ),
  )
  const baselines = readBaselines(root)
  expect(Object.keys(baselines)).toHaveLength(COUNT + 160)
  for (let number = 0; number < 4; number++)
    for (let i = 0; i < 40; i++)
      expect(baselines[`P${number}-${i}:IMPLEMENT`].hash).toBe(promptHash(makeSpec({ taskId: `P${number}-${i}` })))
})

test('a long log: what other programs append is seen at once', async () => {
  const root = makeWorkspace()
  const manager = new PromptAttestationManager(root)
  await manager.attest(makeSpec())
  const line = (task_id: string, i: number, drift_detected = false): string =>
    `${JSON.stringify({ attestation_id: `${i}`, task_id, phase: 'SPEC', prompt_hash: 'a', drift_detected, timestamp: '2026-01-01T00:00:00.000Z', severity: drift_detected ? 'low' : 'none' })}\n`
  appendFileSync(attestationsPath(root), Array.from({ length: 20_000 }, (_, i) => line(`T${i % 500}`, i)).join(''))
  expect(await manager.getAttestationHistory('T42')).toHaveLength(40)
  for (let i = 0; i < 5; i++) {
    appendFileSync(attestationsPath(root), line('T42', 20_000 + i, true))
    expect((await manager.getAttestationHistory('T42')).at(-1)?.attestation_id).toBe(`${20_000 + i}`)
    expect(await manager.getDriftStats()).toMatchObject({ totalAttestations: 20_002 + i, driftDetections: i + 1 })
  }
  await manager.attest(makeSpec())
  expect(await new PromptAttestationManager(root).getAttestationHistory('TASK-1')).toHaveLength(2)
  expect(readLines(attestationsPath(root))).toHaveLength(20_007)
})
