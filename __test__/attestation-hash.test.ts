import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { PromptAttestationManager, type PromptSpec } from '../index.js'
import { promptHash } from './helpers/hashes.js'
import { makeSpec } from './helpers/shapes.js'
import { attestationsPath, makeWorkspace, readBaselines, readLines } from './helpers/workspace.js'

const vectors = JSON.parse(readFileSync(join(__dirname, 'vectors', 'prompt_hash.json'), 'utf8')) as {
  name: string
  spec: PromptSpec
  hash: string
}[]

const hashOf = async (spec: PromptSpec): Promise<string> => {
  const manager = new PromptAttestationManager(makeWorkspace())
  await manager.initialize()
  return (await manager.attest(spec)).currentHash
}

describe('the hash', () => {
  test.each(vectors.map(({ name, spec, hash }) => [name, spec, hash] as const))('%s', async (_, spec, hash) => {
    expect(await hashOf(spec)).toBe(hash)
  })

  test('is what the answer, the record and the baseline carry', async () => {
    const root = makeWorkspace()
    const manager = new PromptAttestationManager(root)
    const spec = makeSpec()
    expect((await manager.attest(spec)).currentHash).toBe(promptHash(spec))
    expect(readLines(attestationsPath(root))[0].prompt_hash).toBe(promptHash(spec))
    expect(readBaselines(root)['TASK-1:IMPLEMENT'].hash).toBe(promptHash(spec))
  })

  test('explicit undefined is absent, for each optional field', async () => {
    const plain = promptHash(makeSpec())
    for (const field of [
      'personaHash',
      'personaSummary',
      'agentType',
      'modelVersion',
      'promptHash',
      'promptPreview',
      'promptSlots',
      'variantId',
    ])
      expect(await hashOf(makeSpec({ [field]: undefined })), field).toBe(plain)
  })

  test('the orchestrator’s other fields and unknown ones are ignored, whatever they are', async () => {
    const others = {
      promptHash: 'x',
      promptPreview: 5,
      promptSlots: { a: [1n] },
      variantId: Symbol('v'),
      colour: () => 'red',
    }
    expect(await hashOf({ ...makeSpec(), ...others } as unknown as PromptSpec)).toBe(promptHash(makeSpec()))
  })

  test('each hashed field changes it', async () => {
    const changes: Partial<PromptSpec>[] = [
      { phase: 'PR' },
      { taskId: 'other' },
      { requirements: ['first requirement'] },
      { qualityGates: ['build', 'test', 'test'] },
      { artifacts: [] },
      { contextSummary: 'what has been done so far.' },
      { personaHash: 'p' },
      { personaHash: '' },
      { agentType: 'a' },
      { modelVersion: 'm' },
    ]
    const hashes = await Promise.all(changes.map((change) => hashOf(makeSpec(change))))
    expect(new Set([...hashes, promptHash(makeSpec())]).size).toBe(changes.length + 1)
    expect(hashes).toEqual(changes.map((change) => promptHash(makeSpec(change))))
  })

  test('random texts of every kind of unit', async () => {
    // A small generator of its own, so that a failure can be repeated.
    let state = 42
    const random = (below: number): number => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0
      return Math.floor((state / 2 ** 32) * below)
    }
    const ranges = [
      [0, 0x20],
      [0x20, 0x7f],
      [0x7f, 0x100],
      [0x2020, 0x2030],
      [0xd800, 0xdc00],
      [0xdc00, 0xe000],
      [0xe000, 0x10000],
    ] as const
    const text = (): string =>
      Array.from({ length: random(12) }, () => {
        const [from, to] = ranges[random(ranges.length)] ?? [65, 66]
        return String.fromCharCode(from + random(to - from))
      }).join('')
    const manager = new PromptAttestationManager(makeWorkspace())
    await manager.initialize()
    for (let i = 0; i < 300; i++) {
      const list = (): string[] => Array.from({ length: random(8) }, text)
      const spec = makeSpec({
        taskId: text(),
        requirements: list(),
        qualityGates: list(),
        artifacts: list(),
        contextSummary: text(),
        agentType: text(),
      })
      expect((await manager.attest(spec)).currentHash, JSON.stringify(spec)).toBe(promptHash(spec))
    }
  })
})
