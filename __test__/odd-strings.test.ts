import { describe, expect, test } from 'vitest'
import { PhaseLedger, PromptAttestationManager, type WorkPhase } from '../index.js'
import { entryHash, promptHash } from './helpers/hashes.js'
import { HELD, makeSpec } from './helpers/shapes.js'
import { onServer } from './helpers/stores.js'
import { ledgerPath, makeWorkspace, openLeases, readBaselines, readLines } from './helpers/workspace.js'

const strings: Record<string, string> = {
  'the empty string': '',
  'a space': ' ',
  SQL: "'; DROP TABLE phase_leases; --",
  'SQL wildcards': '%_*?',
  JSON: '{"a":[1,"b"]}',
  'quotation marks and backslashes': '"\\\'`\\n',
  'line breaks': 'a\nb\r\nc\u2028d\u2029e',
  'a NUL at the start': '\u0000a',
  'a NUL inside': 'a\u0000b',
  'a NUL at the end': 'a\u0000',
  'control characters': '\u0001\u0008\u001b[31m\u007f',
  'half a pair, high': 'x\ud83d',
  'half a pair, low': '\udc00x',
  'halves in the wrong order': '\udc00\ud83d',
  'a replacement character': 'x\ufffd',
  'an emoji': '👩‍👩‍👧',
  composed: '\u00e9',
  decomposed: 'e\u0301',
  'a name of the prototype': '__proto__',
  'another one': 'constructor',
  'a path': '../../etc/passwd',
  'a byte order mark': '\ufefftask',
  '100,000 characters': 'long '.repeat(20_000),
  '100,000 characters but for the last': `${'long '.repeat(20_000).slice(0, -1)}!`,
}
const entries = Object.entries(strings)

describe('leases', () => {
  test('every string is a task of its own and is found again exactly', async () => {
    const root = makeWorkspace()
    const manager = openLeases(root, { agentId: 'me' })
    for (const [name, task] of entries) {
      expect(await manager.getLeaseAsync(task, 'SPEC'), name).toBeNull()
      const { lease } = await manager.acquireLease(task, 'SPEC')
      expect(lease?.task_id === task, name).toBe(true)
    }
    const other = openLeases(root, { agentId: 'other' })
    for (const [name, task] of entries) {
      expect((await other.getLeaseAsync(task, 'SPEC'))?.task_id === task, name).toBe(true)
      expect(manager.holdsLease(task, 'SPEC'), name).toBe(true)
      expect(await other.acquireLease(task, 'SPEC'), name).toMatchObject({ acquired: false, reason: HELD })
      expect((await manager.renewLease(task, 'SPEC')).renewed, name).toBe(true)
    }
    expect((await manager.getStats()).totalLeases).toBe(entries.length)
    for (const [name, task] of entries) expect(await manager.releaseLease(task, 'SPEC'), name).toBe(true)
    expect((await manager.getStats()).totalLeases).toBe(0)
  })

  test('every string is a phase', async () => {
    const manager = openLeases(makeWorkspace())
    for (const [name, phase] of entries) {
      const { lease } = await manager.acquireLease('T', phase as WorkPhase)
      expect(lease?.phase === phase, name).toBe(true)
      expect((await manager.getLeaseAsync('T', phase as WorkPhase))?.lease_id, name).toBe(lease?.lease_id)
    }
    expect(await manager.releaseAllLeases()).toBe(entries.length)
  })

  test('every string but the empty one is an agent', async () => {
    const root = makeWorkspace()
    for (const [name, agentId] of entries) {
      if (agentId === '') continue
      const manager = openLeases(root, { agentId })
      expect((await manager.acquireLease(name, 'SPEC')).lease?.agent_id === agentId, name).toBe(true)
      const refused = await openLeases(root).acquireLease(name, 'SPEC')
      expect(refused.holder === agentId, name).toBe(true)
      expect(await manager.releaseAllLeases(), name).toBe(1)
    }
  })
})

describe('attestations', () => {
  test('every string is a task of its own and is found again exactly', async () => {
    const root = makeWorkspace()
    const manager = new PromptAttestationManager(root)
    await manager.initialize()
    const specOf = (task: string) =>
      makeSpec({ taskId: task, contextSummary: `in ${task}`, agentType: task, modelVersion: task })
    for (const [name, task] of entries) {
      const first = await manager.attest(specOf(task))
      expect(first, name).toMatchObject({ hasDrift: false, currentHash: promptHash(specOf(task)) })
      expect(first.baselineHash, name).toBeUndefined()
    }
    const again = new PromptAttestationManager(root)
    for (const [name, task] of entries) {
      expect((await again.attest({ ...specOf(task), contextSummary: 'other' })).baselineHash, name).toBe(
        promptHash(specOf(task)),
      )
      const history = await again.getAttestationHistory(task)
      expect(
        history.map(
          (record) => record.task_id === task && record.agent_type === task && record.prompt_version === task,
        ),
        name,
      ).toEqual([true, true])
    }
    expect((await again.getDriftStats()).totalAttestations).toBe(entries.length * 2)
    const baselines = onServer ? undefined : readBaselines(root)
    for (const [name, task] of entries) {
      if (baselines) expect(Object.hasOwn(baselines, `${task}:IMPLEMENT`), name).toBe(true)
      await again.resetBaseline(task, 'IMPLEMENT', promptHash({ ...specOf(task), contextSummary: 'other' }), {
        reason: task,
      })
      expect((await manager.attest({ ...specOf(task), contextSummary: 'other' })).hasDrift, name).toBe(false)
    }
  })

  test('every string without a colon is a phase, of medium severity', async () => {
    const manager = new PromptAttestationManager(makeWorkspace())
    await manager.initialize()
    for (const [name, text] of entries) {
      const phase = text.replaceAll(':', '') as WorkPhase
      await manager.attest(makeSpec({ phase }))
      expect(await manager.attest(makeSpec({ phase, contextSummary: 'other' })), name).toMatchObject({
        hasDrift: true,
        severity: 'medium',
      })
      expect((await manager.getAttestationHistory('TASK-1')).at(-1)?.phase === phase, name).toBe(true)
    }
  })
})

describe('the ledger', () => {
  test('takes every string everywhere, and its chain holds', async () => {
    const root = makeWorkspace()
    const ledger = new PhaseLedger(root)
    await ledger.initialize()
    for (const [name, text] of entries) {
      const phase = text as WorkPhase
      const entry = await ledger.appendTransition(text, phase, phase, [text, 'z', text], true, {
        agentType: text,
        personaHash: text,
      })
      expect(
        [entry.task_id, entry.from_phase, entry.to_phase, entry.agent_type].every((found) => found === text),
        name,
      ).toBe(true)
      expect(entry.entry_hash, name).toBe(entryHash(entry))
    }
    const again = new PhaseLedger(root)
    for (const [name, text] of entries) {
      const history = await again.getTaskHistory(text)
      expect(history.length, name).toBe(1)
      expect(history[0]?.task_id === text && history[0].evidence_artifacts[2] === text, name).toBe(true)
      expect((await again.getCurrentPhase(text)) === text, name).toBe(true)
    }
    expect(await again.verify()).toMatchObject({ valid: true, entries_checked: entries.length })
    expect((await again.getStats()).uniqueTasks).toBe(entries.length)
    if (onServer) return
    for (const line of readLines(ledgerPath(root))) expect(line.entry_hash).toBe(entryHash(line))
  })
})
