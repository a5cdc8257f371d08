// More attestations than one turn of the event loop has time for.
import { expect, test } from 'vitest'
import { PromptAttestationManager, type PromptSpec } from '../index.js'
import { promptHash } from './helpers/hashes.js'
import { makeSpec } from './helpers/shapes.js'
import { attestationsPath, makeWorkspace, readLines } from './helpers/workspace.js'

const MANY = 2000

test('each prompt counts as it was when it was passed, in the order of the calls', async () => {
  const root = makeWorkspace()
  const manager = new PromptAttestationManager(root)
  const spec = makeSpec({ requirements: [] })
  const expected: string[] = []
  const asked = Array.from({ length: MANY }, (_, i) => {
    spec.taskId = `T${i}`
    spec.requirements[0] = `as of call ${i}`
    expected.push(promptHash(spec))
    return manager.attest(spec)
  })
  spec.requirements.push('too late')
  expect((await Promise.all(asked)).map(({ currentHash }) => currentHash)).toEqual(expected)
  expect(readLines(attestationsPath(root)).map(({ prompt_hash }) => prompt_hash)).toEqual(expected)
})

test('no other call overtakes them', async () => {
  const manager = new PromptAttestationManager(makeWorkspace())
  const last = makeSpec({ taskId: `T${MANY - 1}` })
  const hash = 'f'.repeat(64)
  const asked = Array.from({ length: MANY }, (_, i) => manager.attest(makeSpec({ taskId: `T${i}` })))
  const history = manager.getAttestationHistory(last.taskId)
  const stats = manager.getDriftStats()
  const reset = manager.resetBaseline(last.taskId, last.phase, hash)
  const after = manager.attest(last)
  expect(await history).toHaveLength(1)
  expect(await stats).toMatchObject({ totalAttestations: MANY, driftDetections: 0 })
  await reset
  expect(await after).toMatchObject({ hasDrift: true, baselineHash: hash })
  for (const { error, baselineHash } of await Promise.all(asked)) {
    expect([error, baselineHash]).toEqual([undefined, undefined])
  }
})

test('what is no prompt is answered with its error, and disturbs no other', async () => {
  const manager = new PromptAttestationManager(makeWorkspace())
  const unreadable = {
    ...makeSpec(),
    get taskId(): string {
      throw new Error('unreadable')
    },
  }
  const bad: unknown[] = [null, undefined, 7, [], {}, { ...makeSpec(), artifacts: [1] }, unreadable]
  const asked = Array.from({ length: MANY }, (_, i) =>
    manager.attest((i % 100 === 99 ? bad[((i / 100) % bad.length) | 0] : makeSpec({ taskId: `T${i}` })) as PromptSpec),
  )
  await expect(PromptAttestationManager.prototype.getDriftStats.call({})).rejects.toThrow()
  const answers = await Promise.all(asked)
  const codes = answers.map(({ errorCode }) => errorCode)
  expect(codes.filter((code) => code === 'INVALID_ARGUMENT')).toHaveLength(MANY / 100)
  expect(codes.filter((code) => code !== undefined)).toHaveLength(MANY / 100)
  await expect(manager.resetBaseline(7 as unknown as string, 'SPEC', 'x')).rejects.toThrow('taskId')
  expect(await manager.getDriftStats()).toMatchObject({ totalAttestations: MANY - MANY / 100 })
})
