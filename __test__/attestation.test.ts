import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { PromptAttestationManager, type PromptSpec, type WorkPhase } from '../index.js'
import { promptHash } from './helpers/hashes.js'
import { ISO_MS, makeSpec, SHA256 } from './helpers/shapes.js'
import {
  attestationsPath,
  baselinesPath,
  makeWorkspace,
  readBaselines,
  readLines,
  updatesPath,
} from './helpers/workspace.js'

async function open(root = makeWorkspace()): Promise<PromptAttestationManager> {
  const manager = new PromptAttestationManager(root)
  await manager.initialize()
  return manager
}

describe('opening', () => {
  test('the constructor touches nothing', () => {
    const root = makeWorkspace()
    new PromptAttestationManager(root)
    new PromptAttestationManager(join(root, 'is', 'not', 'there'))
    expect(readdirSync(root)).toEqual([])
  })

  test('initialize() makes the folder, empty baselines and an empty updates log', async () => {
    const root = makeWorkspace()
    await open(root)
    expect(readBaselines(root)).toEqual({})
    expect(readFileSync(updatesPath(root), 'utf8')).toBe('')
  })

  test('initialize() keeps what is there, and may be called again', async () => {
    const root = makeWorkspace()
    const manager = await open(root)
    await manager.attest(makeSpec())
    await manager.resetBaseline('T', 'SPEC', 'hash')
    const before = [baselinesPath, updatesPath, attestationsPath].map((path) => readFileSync(path(root), 'utf8'))
    await manager.initialize()
    await open(root)
    expect([baselinesPath, updatesPath, attestationsPath].map((path) => readFileSync(path(root), 'utf8'))).toEqual(
      before,
    )
  })

  test('initialize() rejects where there can be no folder, and never throws', async () => {
    const root = makeWorkspace()
    writeFileSync(join(root, 'state'), 'a file')
    for (const place of [root, join(root, 'state')]) {
      const promise = new PromptAttestationManager(place).initialize()
      expect(promise).toBeInstanceOf(Promise)
      await expect(promise).rejects.toThrow()
    }
  })
})

describe('attesting', () => {
  test('the first one sets the baseline', async () => {
    const root = makeWorkspace()
    const manager = await open(root)
    const answer = await manager.attest(makeSpec())
    expect(answer).toMatchObject({
      hasDrift: false,
      currentHash: promptHash(makeSpec()),
      severity: 'none',
      personaDrift: false,
      recommendation: 'Prompt specification matches baseline',
    })
    expect(answer.baselineHash).toBeUndefined()
    expect(answer.driftDetails).toBeUndefined()
    expect(answer.personaDetails).toBeUndefined()
    expect(Object.values(answer)).not.toContain(null)
    const baseline = readBaselines(root)['TASK-1:IMPLEMENT']
    expect(baseline).toEqual({ hash: promptHash(makeSpec()), version: 1, updatedAt: expect.stringMatching(ISO_MS) })
  })

  test('works without initialize()', async () => {
    const root = makeWorkspace()
    expect(await new PromptAttestationManager(root).attest(makeSpec())).toMatchObject({ hasDrift: false })
    expect(readLines(attestationsPath(root))).toHaveLength(1)
    expect(Object.keys(readBaselines(root))).toEqual(['TASK-1:IMPLEMENT'])
  })

  test('the same specification does not drift, whatever its timestamp and the order of its lists', async () => {
    const manager = await open()
    await manager.attest(makeSpec())
    const answer = await manager.attest(
      makeSpec({ timestamp: '2030-05-05T00:00:00.000Z', requirements: ['second requirement', 'first requirement'] }),
    )
    expect(answer).toMatchObject({
      hasDrift: false,
      baselineHash: promptHash(makeSpec()),
      currentHash: promptHash(makeSpec()),
      severity: 'none',
      recommendation: 'Prompt specification matches baseline',
    })
    expect(answer.driftDetails).toBeUndefined()
  })

  const critical = 'CRITICAL: Prompt drift in critical phase - review immediately'
  const warning = 'WARNING: Prompt drift detected - verify intentional'
  const minor = 'INFO: Minor prompt drift in early phase'
  test.each<[string, string, string]>([
    ['VERIFY', 'high', critical],
    ['REVIEW', 'high', critical],
    ['MONITOR', 'high', critical],
    ['STRATEGIZE', 'low', minor],
    ['SPEC', 'low', minor],
    ['PLAN', 'low', minor],
    ['AFP_ALIGNMENT', 'low', minor],
    ['THINK', 'medium', warning],
    ['IMPLEMENT', 'medium', warning],
    ['PR', 'medium', warning],
    ['verify', 'medium', warning],
    ['DANCE', 'medium', warning],
  ])('drift in %s is of severity %s', async (phase, severity, recommendation) => {
    const manager = await open()
    const spec = makeSpec({ phase: phase as WorkPhase })
    const changed = { ...spec, contextSummary: 'other' }
    await manager.attest(spec)
    const answer = await manager.attest(changed)
    expect(answer).toMatchObject({
      hasDrift: true,
      baselineHash: promptHash(spec),
      currentHash: promptHash(changed),
      severity,
      recommendation,
      personaDrift: false,
    })
    expect(answer.driftDetails).toContain(promptHash(spec).slice(0, 8))
    expect(answer.driftDetails).toContain(promptHash(changed).slice(0, 8))
    // The baseline stays.
    expect((await manager.attest(changed)).hasDrift).toBe(true)
    expect((await manager.attest(spec)).hasDrift).toBe(false)
  })

  test('each task and phase has a baseline of its own', async () => {
    const manager = await open()
    for (const taskId of ['A', 'B', 'A:B'])
      for (const phase of ['SPEC', 'PLAN'] as const)
        expect((await manager.attest(makeSpec({ taskId, phase }))).baselineHash).toBeUndefined()
  })

  test('the caller’s object and lists are left as they were', async () => {
    const manager = await open()
    const spec = makeSpec({ requirements: ['z', 'a'], qualityGates: ['y', 'b'], artifacts: ['x', 'c'] })
    const before = structuredClone(spec)
    await manager.attest(spec)
    expect(spec).toEqual(before)
    Object.freeze(spec.requirements)
    Object.freeze(spec)
    expect((await manager.attest(spec)).hasDrift).toBe(false)
  })

  test('what the caller changes after the call doesn’t count', async () => {
    const root = makeWorkspace()
    const manager = await open(root)
    const spec = makeSpec()
    const asked = manager.attest(spec)
    spec.contextSummary = 'changed'
    spec.requirements.push('one more')
    expect((await asked).currentHash).toBe(promptHash(makeSpec()))
  })
})

describe('persona drift', () => {
  const [a, b] = ['a1b2c3d4e5f60718'.repeat(4), 'ffeeddccbbaa9988'.repeat(4)] as const

  test('both hashes there and different: drift, with both named', async () => {
    const manager = await open()
    await manager.attest(makeSpec({ personaHash: a, personaSummary: 'the careful one' }))
    const answer = await manager.attest(makeSpec({ personaHash: b, personaSummary: 'the bold one' }))
    expect(answer).toMatchObject({ hasDrift: true, personaDrift: true })
    expect(answer.personaDetails).toContain(a.slice(0, 16))
    expect(answer.personaDetails).toContain(b.slice(0, 16))
    expect(answer.personaDetails).toContain('(the bold one)')
    const plain = await manager.attest(makeSpec({ personaHash: b }))
    expect(plain.personaDetails).toContain(b.slice(0, 16))
    expect(plain.personaDetails).not.toContain('(')
  })

  test.each<[string, Partial<PromptSpec>, Partial<PromptSpec>]>([
    ['the same', { personaHash: a }, { personaHash: a, contextSummary: 'other' }],
    ['none in the baseline', {}, { personaHash: b }],
    ['none in the specification', { personaHash: a }, {}],
    ['an empty one in the baseline', { personaHash: '' }, { personaHash: b }],
    ['an empty one in the specification', { personaHash: a }, { personaHash: '' }],
    ['undefined in the specification', { personaHash: a }, { personaHash: undefined }],
  ])('none if the persona is %s', async (_, first, second) => {
    const manager = await open()
    await manager.attest(makeSpec(first))
    const answer = await manager.attest(makeSpec(second))
    expect(answer).toMatchObject({ hasDrift: true, personaDrift: false })
    expect(answer.personaDetails).toBeUndefined()
  })
})

describe('history and statistics', () => {
  test('nothing there', async () => {
    const manager = await open()
    expect(await manager.getAttestationHistory('T')).toEqual([])
    expect(await manager.getDriftStats()).toEqual({
      totalAttestations: 0,
      driftDetections: 0,
      driftRate: 0,
      severityCounts: {},
    })
    expect(await new PromptAttestationManager(makeWorkspace()).getAttestationHistory('T')).toEqual([])
  })

  test('a task’s records, oldest first, from whoever wrote them', async () => {
    const root = makeWorkspace()
    const [one, two] = [await open(root), await open(root)]
    for (let i = 0; i < 6; i++) {
      await (i % 2 ? one : two).attest(makeSpec({ contextSummary: `step ${i}`, phase: i < 3 ? 'SPEC' : 'PLAN' }))
      await one.attest(makeSpec({ taskId: 'OTHER' }))
    }
    const history = await two.getAttestationHistory('TASK-1')
    expect(history.map(({ prompt_hash }) => prompt_hash)).toEqual(
      Array.from({ length: 6 }, (_, i) =>
        promptHash(makeSpec({ contextSummary: `step ${i}`, phase: i < 3 ? 'SPEC' : 'PLAN' })),
      ),
    )
    expect(history).toEqual(readLines(attestationsPath(root)).filter(({ task_id }) => task_id === 'TASK-1'))
    expect(history[0]?.prompt_hash).toMatch(SHA256)
    expect(await one.getAttestationHistory('TASK')).toEqual([])
  })

  test('the counts', async () => {
    const manager = await open()
    for (const phase of ['SPEC', 'VERIFY', 'THINK'] as const) await manager.attest(makeSpec({ phase }))
    for (const phase of ['SPEC', 'VERIFY', 'VERIFY'] as const)
      await manager.attest(makeSpec({ phase, contextSummary: 'other' }))
    await manager.attest(makeSpec({ phase: 'THINK' }))
    expect(await manager.getDriftStats()).toEqual({
      totalAttestations: 7,
      driftDetections: 3,
      driftRate: 3 / 7,
      severityCounts: { none: 4, low: 1, high: 2 },
    })
  })

  test('a record without severity counts as unknown if it drifted, else as none', async () => {
    const root = makeWorkspace()
    const manager = await open(root)
    const lines = [true, false, false, true, true].map((drift_detected, i) =>
      JSON.stringify({ task_id: 'T', phase: 'SPEC', attestation_id: `${i}`, drift_detected }),
    )
    writeFileSync(attestationsPath(root), `${lines.join('\n')}\n`)
    expect((await manager.getDriftStats()).severityCounts).toEqual({ unknown: 3, none: 2 })
    expect(await manager.getAttestationHistory('T')).toHaveLength(5)
  })
})

describe('resetting a baseline', () => {
  test('the new hash counts from now on', async () => {
    const root = makeWorkspace()
    const manager = await open(root)
    await manager.attest(makeSpec({ personaHash: 'p' }))
    const changed = makeSpec({ contextSummary: 'other', personaHash: 'q' })
    await manager.resetBaseline('TASK-1', 'IMPLEMENT', promptHash(changed))
    expect(readBaselines(root)['TASK-1:IMPLEMENT']).toEqual({
      hash: promptHash(changed),
      version: 2,
      updatedAt: expect.stringMatching(ISO_MS),
    })
    expect(await manager.attest(changed)).toMatchObject({
      hasDrift: false,
      baselineHash: promptHash(changed),
      personaDrift: false,
    })
    expect(await manager.attest(makeSpec({ personaHash: 'p' }))).toMatchObject({ hasDrift: true, personaDrift: false })
    expect(readLines(attestationsPath(root)).map(({ baseline_version }) => baseline_version)).toEqual([1, 2, 2])
  })

  test('with everything that one can say about it', async () => {
    const root = makeWorkspace()
    const manager = await open(root)
    const options = {
      updatedBy: 'me',
      reason: 'a "new" prompt',
      versionTag: 'v2.0',
      timestamp: '2026-02-03T04:05:06.789Z',
      colour: 'red',
    }
    await manager.resetBaseline('epic:1:T', 'SPEC', 'abc', options)
    await manager.resetBaseline('epic:1:T', 'SPEC', 'def', { updatedBy: undefined })
    const first = {
      hash: 'abc',
      version: 1,
      updatedAt: options.timestamp,
      updatedBy: 'me',
      reason: 'a "new" prompt',
      versionTag: 'v2.0',
    }
    const second = { hash: 'def', version: 2, updatedAt: expect.stringMatching(ISO_MS) }
    expect(readBaselines(root)).toEqual({ 'epic:1:T:SPEC': second })
    expect(readLines(updatesPath(root))).toEqual([
      { taskId: 'epic:1:T', phase: 'SPEC', ...first },
      { taskId: 'epic:1:T', phase: 'SPEC', ...second },
    ])
  })

  test('rejects when it can’t be stored', async () => {
    const root = makeWorkspace()
    const manager = await open(root)
    const place = join(root, 'file')
    writeFileSync(place, '')
    await expect(new PromptAttestationManager(place).resetBaseline('T', 'SPEC', 'abc')).rejects.toThrow()
    expect(existsSync(place)).toBe(true)
    const blocked = makeWorkspace()
    mkdirSync(baselinesPath(blocked), { recursive: true })
    writeFileSync(join(baselinesPath(blocked), 'full'), '')
    await expect(new PromptAttestationManager(blocked).resetBaseline('T', 'SPEC', 'abc')).rejects.toThrow()
    expect(await manager.getAttestationHistory('T')).toEqual([])
  })
})
