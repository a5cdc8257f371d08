import { appendFileSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { PhaseLedger, type WorkPhase } from '../index.js'
import { entryHash } from './helpers/hashes.js'
import { ISO_MS, SHA256, UUID } from './helpers/shapes.js'
import { sleep } from './helpers/wait.js'
import { type Json, ledgerPath, makeWorkspace, processPath, readLines } from './helpers/workspace.js'

async function open(root: string): Promise<PhaseLedger> {
  const ledger = new PhaseLedger(root)
  await ledger.initialize()
  return ledger
}

const phases: WorkPhase[] = ['STRATEGIZE', 'SPEC', 'PLAN', 'THINK', 'IMPLEMENT', 'VERIFY', 'REVIEW', 'PR', 'MONITOR']

/** A ledger with `count` entries, each with a persona. */
async function filled(count: number): Promise<{ root: string; ledger: PhaseLedger }> {
  const root = makeWorkspace()
  const ledger = await open(root)
  for (let i = 0; i < count; i++) {
    await ledger.appendTransition(
      `T${i % 2}`,
      i < 2 ? null : (phases[i - 2] ?? null),
      phases[i] ?? 'PR',
      [`evidence-${i}.md`],
      true,
      {
        agentType: 'coder',
        durationMs: i,
        personaHash: `persona-${i}`,
      },
    )
  }
  return { root, ledger }
}

/** Changes the lines as objects, and leaves everything else as it was. */
function rewrite(root: string, change: (entries: Json[]) => unknown): void {
  const entries = readLines(ledgerPath(root))
  const changed = (change(entries) as Json[] | undefined) ?? entries
  writeFileSync(ledgerPath(root), changed.map((entry: Json) => `${JSON.stringify(entry)}\n`).join(''))
}

describe('opening', () => {
  test('the constructor touches nothing; initialize() makes the folder and no file', async () => {
    const root = makeWorkspace()
    const ledger = new PhaseLedger(root)
    expect(await ledger.exists()).toBe(false)
    expect(readdirSync(root)).toEqual([])
    await ledger.initialize()
    expect(existsSync(processPath(root))).toBe(true)
    expect(await ledger.exists()).toBe(false)
    await ledger.appendTransition('T', null, 'SPEC', [], true)
    expect(await ledger.exists()).toBe(true)
    expect(await new PhaseLedger(root).exists()).toBe(true)
  })

  test('initialize() rejects where there can be no folder', async () => {
    const root = makeWorkspace()
    writeFileSync(join(root, 'state'), 'a file')
    const promise = new PhaseLedger(root).initialize()
    expect(promise).toBeInstanceOf(Promise)
    await expect(promise).rejects.toThrow()
  })
})

describe('appending', () => {
  test('the entry, with everything', async () => {
    const root = makeWorkspace()
    const ledger = await open(root)
    const entry = await ledger.appendTransition('T', null, 'SPEC', ['z.md', 'a.md', 'z.md'], true, {
      agentType: 'coder',
      durationMs: 1234,
      personaHash: 'p',
    })
    expect(entry).toMatchObject({
      entry_id: expect.stringMatching(UUID),
      timestamp: expect.stringMatching(ISO_MS),
      previous_hash: 'genesis',
      entry_hash: expect.stringMatching(SHA256),
      task_id: 'T',
      from_phase: null,
      to_phase: 'SPEC',
      evidence_artifacts: ['z.md', 'a.md', 'z.md'],
      evidence_validated: true,
      persona_hash: 'p',
      agent_type: 'coder',
      duration_ms: 1234,
    })
    expect(entry.entry_hash).toBe(entryHash(entry))
    const [line] = readLines(ledgerPath(root))
    expect(line).toMatchObject({ ...entry })
    expect(Object.keys(line).slice(0, 12)).toEqual([
      'entry_id',
      'timestamp',
      'previous_hash',
      'entry_hash',
      'task_id',
      'from_phase',
      'to_phase',
      'evidence_artifacts',
      'evidence_validated',
      'persona_hash',
      'agent_type',
      'duration_ms',
    ])
  })

  test('leaves out what isn’t there', async () => {
    const root = makeWorkspace()
    const ledger = await open(root)
    const options = { agentType: undefined, durationMs: undefined, personaHash: undefined, colour: 'red' }
    for (const given of [undefined, {}, options]) {
      const entry = await ledger.appendTransition('T', 'SPEC', 'PLAN', [], false, given)
      expect(entry.persona_hash ?? entry.agent_type ?? entry.duration_ms).toBeUndefined()
      expect(entry.entry_hash).toBe(entryHash(entry))
    }
    for (const line of readLines(ledgerPath(root)))
      expect(Object.keys(line).slice(0, 9)).toEqual([
        'entry_id',
        'timestamp',
        'previous_hash',
        'entry_hash',
        'task_id',
        'from_phase',
        'to_phase',
        'evidence_artifacts',
        'evidence_validated',
      ])
  })

  test('every kind of number as JavaScript writes it', async () => {
    const root = makeWorkspace()
    const ledger = await open(root)
    for (const durationMs of [
      0,
      -0,
      1,
      1.5,
      0.1 + 0.2,
      1e21,
      123456789012345680000,
      1e-7,
      5e-324,
      -1,
      Number.MAX_SAFE_INTEGER,
      Number.MAX_VALUE,
    ]) {
      const entry = await ledger.appendTransition('T', null, 'SPEC', [], true, { durationMs })
      expect(entry.duration_ms).toBe(durationMs === 0 ? entry.duration_ms : durationMs)
      expect(entry.entry_hash, `${durationMs}`).toBe(entryHash(entry))
      expect(readFileSync(ledgerPath(root), 'utf8').trimEnd().split('\n').at(-1)).toContain(
        `"duration_ms":${JSON.stringify(durationMs)}`,
      )
    }
    expect(await ledger.verify()).toMatchObject({ valid: true, entries_checked: 12 })
  })

  test('each entry goes onto the one before it, from whichever instance', async () => {
    const root = makeWorkspace()
    const ledgers = [await open(root), await open(root), new PhaseLedger(root)]
    let previous = 'genesis'
    for (let i = 0; i < 12; i++) {
      const entry = await (ledgers[i % 3] as PhaseLedger).appendTransition('T', null, 'SPEC', [], true)
      expect(entry.previous_hash).toBe(previous)
      previous = entry.entry_hash
    }
    for (const ledger of ledgers) expect(await ledger.verify()).toMatchObject({ valid: true, entries_checked: 12 })
  })

  test('many at once keep their order and their chain', async () => {
    const root = makeWorkspace()
    const [one, two] = [await open(root), await open(root)]
    const entries = await Promise.all(
      Array.from({ length: 200 }, (_, i) =>
        (i % 10 === 9 ? two : one).appendTransition(`T${i}`, null, 'SPEC', [], true),
      ),
    )
    const lines = readLines(ledgerPath(root))
    expect(new Set(lines.map(({ entry_id }) => entry_id))).toEqual(new Set(entries.map(({ entry_id }) => entry_id)))
    expect(lines).toHaveLength(200)
    const own = lines.map(({ task_id }) => Number(task_id.slice(1))).filter((i) => i % 10 !== 9)
    expect(own).toEqual([...own].sort((a, b) => a - b))
    expect(await one.verify()).toMatchObject({ valid: true, entries_checked: 200 })
  })

  test('what the caller changes after the call doesn’t count', async () => {
    const root = makeWorkspace()
    const ledger = await open(root)
    const evidence = ['b', 'a']
    const asked = ledger.appendTransition('T', null, 'SPEC', evidence, true)
    evidence.push('c')
    expect((await asked).evidence_artifacts).toEqual(['b', 'a'])
    expect(evidence).toEqual(['b', 'a', 'c'])
  })

  test('rejects when it can’t be written', async () => {
    const root = makeWorkspace()
    const ledger = await open(root)
    mkdirSync(ledgerPath(root))
    await expect(ledger.appendTransition('T', null, 'SPEC', [], true)).rejects.toThrow()
    rmSync(ledgerPath(root), { recursive: true })
    expect((await ledger.appendTransition('T', null, 'SPEC', [], true)).previous_hash).toBe('genesis')
  })

  test('a torn last line, as a crash leaves it, is survived', async () => {
    const { root, ledger } = await filled(3)
    const last = readLines(ledgerPath(root)).at(-1)
    appendFileSync(ledgerPath(root), '{"entry_id":"torn","timestamp":"2026-01-0')
    const entry = await new PhaseLedger(root).appendTransition('T0', 'PLAN', 'PR', [], true)
    expect(entry.previous_hash).toBe(last.entry_hash)
    const next = await ledger.appendTransition('T0', 'PR', 'MONITOR', [], true)
    expect(next.previous_hash).toBe(entry.entry_hash)
    expect(JSON.parse(readFileSync(ledgerPath(root), 'utf8').trimEnd().split('\n').at(-1) ?? '')).toMatchObject({
      entry_id: next.entry_id,
    })
    expect(await ledger.getCurrentPhase('T0')).toBe('MONITOR')
    expect(await new PhaseLedger(root).getTaskHistory('T0')).toHaveLength(4)
  })

  test('a complete last line without a line break is kept', async () => {
    const { root, ledger } = await filled(3)
    writeFileSync(ledgerPath(root), readFileSync(ledgerPath(root), 'utf8').trimEnd())
    await ledger.appendTransition('T', null, 'SPEC', [], true)
    expect(readLines(ledgerPath(root))).toHaveLength(4)
    expect(await ledger.verify()).toMatchObject({ valid: true, entries_checked: 4 })
  })

  test('goes onto what a person left there', async () => {
    const { root, ledger } = await filled(4)
    rewrite(root, (entries) => entries.slice(0, 2))
    const second = readLines(ledgerPath(root))[1]
    expect((await ledger.appendTransition('T', null, 'SPEC', [], true)).previous_hash).toBe(second.entry_hash)
    rmSync(ledgerPath(root))
    expect(await ledger.exists()).toBe(false)
    expect((await ledger.appendTransition('T', null, 'SPEC', [], true)).previous_hash).toBe('genesis')
  })
})

describe('verifying', () => {
  test('nothing there is valid', async () => {
    const root = makeWorkspace()
    expect(await new PhaseLedger(root).verify()).toMatchObject({ valid: true, entries_checked: 0 })
    await open(root)
    writeFileSync(ledgerPath(root), '')
    const result = await new PhaseLedger(root).verify()
    expect(result).toMatchObject({ valid: true, entries_checked: 0 })
    expect(result.broken_chain_at).toBeUndefined()
    expect(Object.values(result)).not.toContain(null)
  })

  test('an untouched chain is valid', async () => {
    const { ledger, root } = await filled(9)
    for (const reader of [ledger, new PhaseLedger(root)]) {
      const { valid, entries_checked, broken_chain_at, tampered_entries, error } = await reader.verify()
      expect({ valid, entries_checked, broken_chain_at, error }).toEqual({
        valid: true,
        entries_checked: 9,
        broken_chain_at: undefined,
        error: undefined,
      })
      expect(tampered_entries ?? []).toEqual([])
    }
  })

  const tampering: [string, (entry: Json) => void][] = [
    ['task_id', (entry) => (entry.task_id = 'other')],
    ['from_phase', (entry) => (entry.from_phase = 'PR')],
    ['from_phase null', (entry) => (entry.from_phase = null)],
    ['to_phase', (entry) => (entry.to_phase = 'MONITOR')],
    ['timestamp', (entry) => (entry.timestamp = '2020-01-01T00:00:00.000Z')],
    ['evidence added', (entry) => entry.evidence_artifacts.push('forged.md')],
    ['evidence taken away', (entry) => (entry.evidence_artifacts = [])],
    ['evidence_validated', (entry) => (entry.evidence_validated = false)],
    ['agent_type', (entry) => (entry.agent_type = 'human')],
    ['agent_type taken away', (entry) => delete entry.agent_type],
    ['duration_ms', (entry) => (entry.duration_ms = 0.5)],
    ['persona_hash', (entry) => (entry.persona_hash = 'somebody else')],
    ['persona_hash taken away', (entry) => delete entry.persona_hash],
  ]
  test.each(tampering)('a changed entry is listed: %s', async (_, change) => {
    const { root, ledger } = await filled(6)
    await ledger.verify()
    const ids = readLines(ledgerPath(root)).map(({ entry_id }) => entry_id)
    rewrite(root, (entries) => {
      change(entries[3])
    })
    for (const reader of [ledger, new PhaseLedger(root)]) {
      const result = await reader.verify()
      expect(result).toMatchObject({ valid: false, entries_checked: 6, tampered_entries: [ids[3]] })
      expect(result.broken_chain_at).toBeUndefined()
    }
  })

  test('all changed entries are listed', async () => {
    const { root, ledger } = await filled(6)
    const ids = readLines(ledgerPath(root)).map(({ entry_id }) => entry_id)
    rewrite(root, (entries) => {
      for (const i of [0, 2, 5]) entries[i].evidence_validated = false
    })
    expect((await ledger.verify()).tampered_entries).toEqual([ids[0], ids[2], ids[5]])
  })

  test.each<[string, (entries: Json[]) => unknown, number]>([
    ['the first is taken away', (entries) => entries.slice(1), 0],
    ['one is taken away', (entries) => entries.filter((_, i) => i !== 2), 2],
    ['two are swapped', (entries) => [...entries.slice(0, 1), entries[2], entries[1], ...entries.slice(3)], 1],
    ['one is there twice', (entries) => [...entries.slice(0, 3), entries[2], ...entries.slice(3)], 3],
    [
      'one is changed and its hash too',
      (entries) => {
        entries[2].task_id = 'forged'
        entries[2].entry_hash = entryHash(entries[2])
      },
      3,
    ],
    [
      'one is put in',
      (entries) => {
        const forged = { ...entries[2], entry_id: 'forged', previous_hash: entries[1].entry_hash }
        return [...entries.slice(0, 2), { ...forged, entry_hash: entryHash(forged) }, ...entries.slice(2)]
      },
      3,
    ],
  ])('a broken chain: %s', async (_, change, at) => {
    const { root, ledger } = await filled(5)
    rewrite(root, change)
    expect(await ledger.verify()).toMatchObject({ valid: false, broken_chain_at: at })
  })

  test('cut at its end it is valid as far as one can see', async () => {
    const { root, ledger } = await filled(5)
    rewrite(root, (entries) => entries.slice(0, 3))
    expect(await ledger.verify()).toMatchObject({ valid: true, entries_checked: 3 })
  })

  test.each(['not JSON', '{"entry_id":"torn","task', '[1,'])('a line that isn’t JSON: %s', async (line) => {
    const { root, ledger } = await filled(3)
    appendFileSync(ledgerPath(root), `${line}\n`)
    expect(await ledger.verify()).toMatchObject({ valid: false, entries_checked: 0, error: expect.stringMatching(/./) })
  })

  test('changes of the same size are seen', async () => {
    const { root, ledger } = await filled(3)
    expect((await ledger.verify()).valid).toBe(true)
    await sleep(20)
    writeFileSync(ledgerPath(root), readFileSync(ledgerPath(root), 'utf8').replace('persona-1', 'persona-9'))
    expect((await ledger.verify()).tampered_entries).toHaveLength(1)
  })
})

describe('asking', () => {
  test('a task’s history, its phase, the counts', async () => {
    const { root, ledger } = await filled(6)
    const lines = readLines(ledgerPath(root))
    expect((await ledger.getTaskHistory('T1')).map(({ entry_id }) => entry_id)).toEqual(
      [1, 3, 5].map((i) => lines[i].entry_id),
    )
    expect(await ledger.getTaskHistory('T')).toEqual([])
    expect(await ledger.getCurrentPhase('T0')).toBe(phases[4])
    expect(await ledger.getCurrentPhase('T')).toBeNull()
    expect(await ledger.getStats()).toEqual({
      totalEntries: 6,
      uniqueTasks: 2,
      oldestEntry: lines[0].timestamp,
      newestEntry: lines[5].timestamp,
      lastHash: lines[5].entry_hash,
    })
  })

  test('nothing there', async () => {
    const ledger = new PhaseLedger(makeWorkspace())
    expect(await ledger.getTaskHistory('T')).toEqual([])
    expect(await ledger.getCurrentPhase('T')).toBeNull()
    const { oldestEntry, newestEntry, ...stats } = await ledger.getStats()
    expect({ oldestEntry, newestEntry }).toEqual({ oldestEntry: undefined, newestEntry: undefined })
    expect(stats).toEqual({ totalEntries: 0, uniqueTasks: 0, lastHash: 'genesis' })
  })

  test('none of the three rejects', async () => {
    const root = makeWorkspace()
    const ledger = await open(root)
    mkdirSync(ledgerPath(root))
    expect(await ledger.getTaskHistory('T')).toEqual([])
    expect(await ledger.getCurrentPhase('T')).toBeNull()
    expect(await ledger.getStats()).toMatchObject({ totalEntries: 0, uniqueTasks: 0, lastHash: 'genesis' })
    rmSync(ledgerPath(root), { recursive: true })
    writeFileSync(ledgerPath(root), 'not JSON\n\n[]\nnull\n42\n{"task_id":5}\n\u0000\n')
    expect(await ledger.getTaskHistory('T')).toEqual([])
    expect(await ledger.getCurrentPhase('T')).toBeNull()
    expect(await ledger.getStats()).toMatchObject({ totalEntries: expect.any(Number) })
  })
})
