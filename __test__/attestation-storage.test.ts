import {
  appendFileSync,
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { describe, expect, test } from 'vitest'
import { PromptAttestationManager, type PromptSpec, setLogger } from '../index.js'
import { promptHash } from './helpers/hashes.js'
import { ISO_MS, makeSpec, UUID } from './helpers/shapes.js'
import { sleep, until } from './helpers/wait.js'
import {
  attestationsPath,
  baselinesPath,
  type Json,
  makeWorkspace,
  processPath,
  readBaselines,
  readLines,
} from './helpers/workspace.js'

async function open(root: string): Promise<PromptAttestationManager> {
  const manager = new PromptAttestationManager(root)
  await manager.initialize()
  return manager
}

/** Collects what is logged until the test ends. */
async function listening<T>(run: (events: Json[]) => Promise<T>): Promise<T> {
  const events: Json[] = []
  setLogger((event) => events.push(event))
  try {
    return await run(events)
  } finally {
    setLogger(null)
  }
}

const changed = makeSpec({ contextSummary: 'other' })

describe('the log', () => {
  test('has its keys in order, with everything', async () => {
    const root = makeWorkspace()
    const manager = await open(root)
    const spec = makeSpec({
      personaHash: 'p1',
      personaSummary: 'sum',
      agentType: 'coder',
      modelVersion: 'm4',
      timestamp: 'whatever',
    })
    await manager.attest(spec)
    const drifted = { ...spec, personaHash: 'p2' }
    const answer = await manager.attest(drifted)
    const [first, second] = readLines(attestationsPath(root))
    const keys = [
      'attestation_id',
      'task_id',
      'phase',
      'prompt_hash',
      'baseline_hash',
      'drift_detected',
      'drift_details',
      'timestamp',
      'persona_hash',
      'persona_summary',
      'persona_drift',
      'agent_type',
      'prompt_version',
      'severity',
      'baseline_version',
    ]
    expect(Object.keys(first)).toEqual(keys.filter((key) => key !== 'baseline_hash' && key !== 'drift_details'))
    expect(Object.keys(second)).toEqual(keys)
    expect(second).toEqual({
      attestation_id: expect.stringMatching(UUID),
      task_id: 'TASK-1',
      phase: 'IMPLEMENT',
      prompt_hash: promptHash(drifted),
      baseline_hash: promptHash(spec),
      drift_detected: true,
      drift_details: answer.driftDetails,
      timestamp: expect.stringMatching(ISO_MS),
      persona_hash: 'p2',
      persona_summary: 'sum',
      persona_drift: true,
      agent_type: 'coder',
      prompt_version: 'm4',
      severity: 'medium',
      baseline_version: 1,
    })
    expect(Math.abs(Date.parse(second.timestamp) - Date.now())).toBeLessThan(10_000)
    expect(first).toMatchObject({ drift_detected: false, persona_drift: false, severity: 'none', baseline_version: 1 })
    expect(first.attestation_id).not.toBe(second.attestation_id)
  })

  test('leaves out what isn’t there', async () => {
    const root = makeWorkspace()
    await (await open(root)).attest(makeSpec())
    expect(Object.keys(readLines(attestationsPath(root))[0])).toEqual([
      'attestation_id',
      'task_id',
      'phase',
      'prompt_hash',
      'drift_detected',
      'timestamp',
      'persona_drift',
      'severity',
      'baseline_version',
    ])
  })

  test('is current and complete whenever a call resolves', async () => {
    const root = makeWorkspace()
    const manager = await open(root)
    for (let i = 1; i <= 20; i++) {
      await manager.attest(makeSpec({ taskId: `T${i}` }))
      expect(readLines(attestationsPath(root))).toHaveLength(i)
      expect(Object.keys(readBaselines(root))).toHaveLength(i)
    }
  })

  test('damaged lines are skipped, the others count', async () => {
    const root = makeWorkspace()
    const manager = await open(root)
    await manager.attest(makeSpec())
    appendFileSync(
      attestationsPath(root),
      '{"task_id":"TASK-1","phase":"IMPL\nnot JSON at all\n\n[]\nnull\n42\n"TASK-1"\n\u0000\u0000\n',
    )
    await manager.attest(changed)
    for (const reader of [manager, new PromptAttestationManager(root)]) {
      expect((await reader.getAttestationHistory('TASK-1')).map(({ prompt_hash }) => prompt_hash)).toEqual([
        promptHash(makeSpec()),
        promptHash(changed),
      ])
      expect(await reader.getDriftStats()).toMatchObject({ totalAttestations: 2, driftDetections: 1 })
    }
  })

  test('a torn last line costs nobody else’s record', async () => {
    const root = makeWorkspace()
    const manager = await open(root)
    await manager.attest(makeSpec())
    appendFileSync(attestationsPath(root), '{"attestation_id":"torn","task_id":"TASK-1","pha')
    await manager.attest(changed)
    await new PromptAttestationManager(root).attest(changed)
    expect(await manager.getAttestationHistory('TASK-1')).toHaveLength(3)
    expect(JSON.parse(readFileSync(attestationsPath(root), 'utf8').trimEnd().split('\n').at(-1) ?? '')).toMatchObject({
      prompt_hash: promptHash(changed),
    })
  })

  test('a complete last line without a line break is kept', async () => {
    const root = makeWorkspace()
    const manager = await open(root)
    await manager.attest(makeSpec())
    writeFileSync(attestationsPath(root), readFileSync(attestationsPath(root), 'utf8').trimEnd())
    await manager.attest(changed)
    expect(readLines(attestationsPath(root))).toHaveLength(2)
    expect(await manager.getAttestationHistory('TASK-1')).toHaveLength(2)
  })

  test('that can’t be written doesn’t silence drift', async () => {
    const root = makeWorkspace()
    const manager = await open(root)
    await manager.attest(makeSpec())
    rmSync(attestationsPath(root))
    mkdirSync(attestationsPath(root))
    await listening(async (events) => {
      const answer = await manager.attest(changed)
      expect(answer).toMatchObject({
        hasDrift: true,
        baselineHash: promptHash(makeSpec()),
        currentHash: promptHash(changed),
        severity: 'medium',
      })
      expect(answer.error).toEqual(expect.stringMatching(/./))
      await until(() => events.some(({ level }) => level !== 'info'), 'a warning comes')
    })
    rmSync(attestationsPath(root), { recursive: true })
    expect((await manager.attest(changed)).error).toBeUndefined()
    expect(await manager.getAttestationHistory('TASK-1')).toHaveLength(1)
  })
})

describe('the baselines file', () => {
  test('missing: the next attestation sets the baseline and makes it again', async () => {
    const root = makeWorkspace()
    const manager = await open(root)
    await manager.attest(makeSpec())
    rmSync(baselinesPath(root))
    const answer = await manager.attest(changed)
    expect(answer).toMatchObject({ hasDrift: false, severity: 'none' })
    expect(answer.baselineHash).toBeUndefined()
    expect(readBaselines(root)['TASK-1:IMPLEMENT']).toMatchObject({ hash: promptHash(changed), version: 1 })
  })

  test.each<[string, unknown]>([
    ['an object', { hash: '', version: 3, updatedAt: '2026-01-01T00:00:00.000Z' }],
    ['bare', ''],
  ])('an empty hash counts as none, %s', async (_, entry) => {
    const root = makeWorkspace()
    const manager = await open(root)
    writeFileSync(baselinesPath(root), JSON.stringify({ 'TASK-1:IMPLEMENT': entry }))
    const answer = await manager.attest(makeSpec())
    expect(answer.hasDrift).toBe(false)
    expect(answer.baselineHash).toBeUndefined()
    expect((await manager.attest(changed)).baselineHash).toBe(promptHash(makeSpec()))
  })

  const edits: [string, (path: string, text: string) => void][] = [
    ['in place', (path, text) => writeFileSync(path, text)],
    [
      'byte by byte in place',
      (path, text) => {
        const file = openSync(path, 'r+')
        writeSync(file, text, 0)
        closeSync(file)
      },
    ],
    [
      'by renaming a new file over it',
      (path, text) => {
        writeFileSync(`${path}.new`, text)
        renameSync(`${path}.new`, path)
      },
    ],
  ]
  test.each(edits)('a person’s edit of the same size is seen at the next call, %s', async (_, edit) => {
    const root = makeWorkspace()
    const [manager, other] = [await open(root), await open(root)]
    await manager.attest(makeSpec())
    await other.attest(makeSpec())
    for (const hash of [promptHash(changed), promptHash(makeSpec()), promptHash(changed)]) {
      await sleep(20)
      const text = readFileSync(baselinesPath(root), 'utf8')
      const { hash: current } = JSON.parse(text)['TASK-1:IMPLEMENT']
      edit(baselinesPath(root), text.replace(current, hash))
      for (const reader of [manager, other]) expect((await reader.attest(changed)).baselineHash).toBe(hash)
    }
  })

  test('even an edit right after our own write', async () => {
    const root = makeWorkspace()
    const manager = await open(root)
    for (let i = 0; i < 30; i++) {
      const spec: PromptSpec = makeSpec({ taskId: `T${i}` })
      await manager.attest(spec)
      const text = readFileSync(baselinesPath(root), 'utf8')
      writeFileSync(
        baselinesPath(root),
        text.replace(promptHash(spec), promptHash({ ...spec, contextSummary: 'other' })),
      )
      expect((await manager.attest(spec)).hasDrift, `round ${i}`).toBe(true)
    }
  })

  test('a person’s reformatting and additions are kept', async () => {
    const root = makeWorkspace()
    const manager = await open(root)
    await manager.attest(makeSpec())
    const edited = {
      ...readBaselines(root),
      'MINE:SPEC': { hash: 'abc', version: 7, updatedAt: '2026-01-01T00:00:00.000Z', note: 'mine' },
    }
    writeFileSync(baselinesPath(root), JSON.stringify(edited, null, 4))
    await manager.attest(makeSpec({ taskId: 'NEXT' }))
    expect(readBaselines(root)).toMatchObject({
      'TASK-1:IMPLEMENT': { version: 1 },
      'MINE:SPEC': { hash: 'abc', version: 7 },
      'NEXT:IMPLEMENT': { version: 1 },
    })
  })

  test('an entry that a person took out is a first attestation again', async () => {
    const root = makeWorkspace()
    const manager = await open(root)
    await manager.attest(makeSpec())
    await manager.attest(makeSpec({ taskId: 'STAYS' }))
    const { 'TASK-1:IMPLEMENT': _, ...rest } = readBaselines(root)
    writeFileSync(baselinesPath(root), JSON.stringify(rest))
    expect((await manager.attest(changed)).baselineHash).toBeUndefined()
    expect((await manager.attest(makeSpec({ taskId: 'STAYS', contextSummary: 'other' }))).hasDrift).toBe(true)
  })

  test.each<[string, (text: string) => string, boolean]>([
    ['cut in the middle of its last entry', (text) => text.slice(0, text.lastIndexOf('"hash"') + 20), true],
    ['without its end', (text) => text.trimEnd().replace(/\}\s*$/, ''), true],
    ['with something behind it', (text) => `${text}}{"x`, true],
    ['not JSON at all', () => 'hello', false],
    ['a list', () => '[]', false],
    ['null', () => 'null', false],
    ['zeros', () => '\u0000'.repeat(100), false],
  ])('damaged (%s): kept aside, salvaged, and said so', async (_, damage, salvageable) => {
    const root = makeWorkspace()
    const manager = await open(root)
    await manager.attest(makeSpec())
    await manager.attest(makeSpec({ taskId: 'LAST' }))
    const damaged = damage(readFileSync(baselinesPath(root), 'utf8'))
    await sleep(20)
    writeFileSync(baselinesPath(root), damaged)
    await listening(async (events) => {
      const answer = await manager.attest(changed)
      if (salvageable) expect(answer).toMatchObject({ hasDrift: true, baselineHash: promptHash(makeSpec()) })
      expect(answer.currentHash).toBe(promptHash(changed))
      await until(() => events.some(({ level }) => level === 'warning'), 'a warning comes')
    })
    expect(readBaselines(root)['TASK-1:IMPLEMENT'].hash).toMatch(/^[0-9a-f]{64}$/)
    const kept = readdirSync(processPath(root)).filter((name) => name.includes('damaged'))
    expect(kept.map((name) => readFileSync(processPath(root, name), 'utf8'))).toEqual([damaged])
    // Once is enough.
    await manager.attest(makeSpec({ taskId: 'NEXT' }))
    expect(readdirSync(processPath(root)).filter((name) => name.includes('damaged'))).toEqual(kept)
  })

  test('empty: the next attestation sets the baseline', async () => {
    const root = makeWorkspace()
    const manager = await open(root)
    writeFileSync(baselinesPath(root), '')
    expect(await manager.attest(makeSpec())).toMatchObject({ hasDrift: false, currentHash: promptHash(makeSpec()) })
    expect(readBaselines(root)['TASK-1:IMPLEMENT']).toMatchObject({ hash: promptHash(makeSpec()), version: 1 })
  })

  test('that can’t be read counts as none', async () => {
    const root = makeWorkspace()
    const manager = await open(root)
    await manager.attest(makeSpec())
    rmSync(baselinesPath(root))
    mkdirSync(baselinesPath(root))
    writeFileSync(`${baselinesPath(root)}/full`, '')
    const answer = await manager.attest(changed)
    expect(answer).toMatchObject({
      hasDrift: false,
      currentHash: promptHash(changed),
      severity: 'none',
      error: expect.any(String),
    })
    expect(answer.baselineHash).toBeUndefined()
  })
})

describe('the log, edited by a person', () => {
  test('history and statistics follow', async () => {
    const root = makeWorkspace()
    const manager = await open(root)
    for (let i = 0; i < 5; i++)
      await manager.attest(makeSpec({ taskId: i % 2 ? 'ODD' : 'EVEN', contextSummary: `step ${i}` }))
    expect(await manager.getAttestationHistory('EVEN')).toHaveLength(3)
    const path = attestationsPath(root)
    const lines = readFileSync(path, 'utf8').trimEnd().split('\n')

    // One line out, and enough in that the file has grown: growth alone proves no append.
    const longer = lines.map((line) => line.replace('{', '{"note":"a long note from a person",'))
    writeFileSync(path, `${longer.filter((_, i) => i !== 0).join('\n')}\n`)
    expect(await manager.getAttestationHistory('EVEN')).toHaveLength(2)
    expect((await manager.getDriftStats()).totalAttestations).toBe(4)

    // The same size, another task.
    await sleep(20)
    writeFileSync(path, readFileSync(path, 'utf8').replace('"task_id":"ODD"', '"task_id":"NEW"'))
    expect(await manager.getAttestationHistory('ODD')).toHaveLength(1)
    expect(await manager.getAttestationHistory('NEW')).toHaveLength(1)

    rmSync(path)
    expect(await manager.getAttestationHistory('EVEN')).toEqual([])
    expect((await manager.getDriftStats()).totalAttestations).toBe(0)
    await manager.attest(makeSpec({ taskId: 'EVEN' }))
    expect(await manager.getAttestationHistory('EVEN')).toHaveLength(1)
  })
})
