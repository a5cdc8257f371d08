import { appendFileSync, readFileSync, writeFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { PromptAttestationManager } from '../index.js'
import {
  cliEntry,
  driftRecord,
  jsonOf,
  promptOf,
  runCli,
  workspaceWithJournals,
  writeAttestations,
} from './helpers/cli.js'
import { runNode } from './helpers/peer.js'
import { sleep } from './helpers/wait.js'
import {
  attestationsPath,
  baselinesPath,
  ledgerPath,
  makeWorkspace,
  readBaselines,
  readLines,
  snapshot,
  updatesPath,
} from './helpers/workspace.js'

const HOUR = 3_600_000

describe('drift', () => {
  test('lists it newest first and counts it by severity', async () => {
    const root = await workspaceWithJournals()
    const { value, code } = await jsonOf(root, 'drift')
    expect(code).toBe(0)
    expect(value).toMatchObject({ attestations: 6, total: 3, damagedLines: 0, counts: { low: 1, medium: 1, high: 1 } })
    expect(value.drift.map(({ phase }: { phase: string }) => phase)).toEqual(['VERIFY', 'IMPLEMENT', 'SPEC'])
    const { stdout } = await runCli(['drift', '-w', root])
    expect(stdout).toContain('3 drifts among 6 attestations: 1 high, 1 medium, 1 low, 0 unknown')
    const [last] = value.drift
    expect(stdout).toContain(
      `high      prompt  TASK-1  VERIFY     coder  ${last.baselineHash.slice(0, 8)} → ${last.promptHash.slice(0, 8)}`,
    )
  })

  test('of one task, and since a time', async () => {
    const root = makeWorkspace()
    writeAttestations(root, [
      driftRecord('high', 10 * HOUR),
      driftRecord('low', HOUR, { task_id: 'OTHER' }),
      driftRecord('medium', HOUR),
    ])
    const totals = async (...args: string[]): Promise<number> => (await jsonOf(root, 'drift', ...args)).value.total
    expect(await totals('--task', 'TASK-1')).toBe(2)
    expect(await totals('--since', '2h')).toBe(2)
    expect(await totals('--since', '90m', '--task', 'TASK-1')).toBe(1)
    expect(await totals('--since', '1d')).toBe(3)
    expect(await totals('--since', new Date(Date.now() - 2 * HOUR).toISOString())).toBe(2)
    expect(await totals('--task', 'NONE')).toBe(0)
  })

  test('--fail-on gives 1 for that severity or worse, and for what is not recorded', async () => {
    const codeFor = async (severity: string | undefined, failOn: string): Promise<number | null> => {
      const root = makeWorkspace()
      writeAttestations(root, [driftRecord(severity, HOUR)])
      return (await jsonOf(root, 'drift', '--fail-on', failOn)).code
    }
    expect(await codeFor('medium', 'high')).toBe(0)
    expect(await codeFor('medium', 'medium')).toBe(1)
    expect(await codeFor('high', 'low')).toBe(1)
    expect(await codeFor('low', 'medium')).toBe(0)
    expect(await codeFor(undefined, 'high')).toBe(1)
  })

  test('--fail-on looks at what --since leaves', async () => {
    const root = makeWorkspace()
    writeAttestations(root, [driftRecord('high', 3 * HOUR)])
    expect((await runCli(['drift', '--fail-on', 'high', '--since', '2h', '-w', root])).code).toBe(0)
    expect((await runCli(['drift', '--fail-on', 'high', '--since', '4h', '-w', root])).code).toBe(1)
  })

  test('of a persona is told as such', async () => {
    const root = makeWorkspace()
    writeAttestations(root, [driftRecord('none', HOUR, { drift_detected: false, persona_drift: true })])
    const { value } = await jsonOf(root, 'drift')
    expect(value.drift).toMatchObject([{ prompt: false, persona: true, severity: 'unknown' }])
  })

  test('the list is limited, the counts are not', async () => {
    const root = makeWorkspace()
    writeAttestations(
      root,
      Array.from({ length: 5 }, (_, i) => driftRecord('low', HOUR, { task_id: `T-${i}` })),
    )
    const { value } = await jsonOf(root, 'drift', '--limit', '2')
    expect(value).toMatchObject({ total: 5, counts: { low: 5 }, drift: [{ taskId: 'T-4' }, { taskId: 'T-3' }] })
    expect((await runCli(['drift', '--limit', '2', '-w', root])).stdout).toContain('… 3 more: --limit 5')
  })

  test('lines of any content are counted and passed over', async () => {
    const root = makeWorkspace()
    writeAttestations(root, [{ task_id: 7, phase: null, drift_detected: true, severity: { a: 1 }, timestamp: [] }])
    appendFileSync(attestationsPath(root), 'no JSON\n[]\nnull\n{"drift_detected":"yes"}\n{"half')
    const { value } = await jsonOf(root, 'drift')
    expect(value).toMatchObject({ attestations: 2, damagedLines: 3, total: 1, counts: { unknown: 1 } })
    expect((await runCli(['drift', '-w', root])).stdout).toContain("3 lines of the log can't be read: driftlock doctor")
  })

  test('a log that is larger than the memory is read all the same', async () => {
    const root = makeWorkspace()
    const records = Array.from({ length: 1000 }, (_, i) => driftRecord(i % 2 ? 'low' : 'none', HOUR))
    writeAttestations(root, records)
    const thousand = readFileSync(attestationsPath(root))
    for (let i = 1; i < 200; i++) appendFileSync(attestationsPath(root), thousand)
    const args = ['--max-old-space-size=24', '--max-semi-space-size=1', cliEntry, 'drift', '--json', '-w', root]
    const { stdout, code } = await runNode(args)
    expect(code).toBe(0)
    expect(JSON.parse(stdout)).toMatchObject({ attestations: 200_000, total: 200_000, counts: { low: 100_000 } })
  })
})

describe('history', () => {
  test('merges attestations and transitions by time', async () => {
    const root = await workspaceWithJournals()
    await sleep(5)
    await new PromptAttestationManager(root).attest(promptOf('TASK-1', 'REVIEW', 'late'))
    await new PromptAttestationManager(root).attest(promptOf('TASK-2', 'REVIEW', 'of another'))
    const { value, code } = await jsonOf(root, 'history', 'TASK-1')
    expect(code).toBe(0)
    const times = value.events.map(({ at }: { at: string }) => at)
    expect(times).toEqual([...times].sort())
    expect(value.events).toHaveLength(9)
    expect(value.events.at(-1)).toMatchObject({ kind: 'attestation', record: { phase: 'REVIEW' } })
    const { stdout } = await runCli(['history', 'TASK-1', '-w', root])
    expect(stdout).toMatch(/attestation +VERIFY +coder +first: the baseline$/m)
    expect(stdout).toMatch(/attestation +VERIFY +coder +prompt drifted: high$/m)
    expect(stdout).toMatch(/transition +SPEC → IMPLEMENT +coder +evidence: 2, not validated$/m)
    expect(stdout).toMatch(/transition +\(start\) → SPEC +- +evidence: 1, validated$/m)
  })

  test('of an unknown task is empty', async () => {
    const root = await workspaceWithJournals()
    expect(await runCli(['history', 'T-9', '-w', root])).toMatchObject({
      code: 0,
      stdout: 'nothing is recorded of T-9\n',
    })
  })
})

describe('ledger', () => {
  test('verify says whole, or where not', async () => {
    const root = await workspaceWithJournals()
    expect(await runCli(['ledger', 'verify', '-w', root])).toMatchObject({
      code: 0,
      stdout: 'whole: 2 entries checked\n',
    })
    const [first, second] = readFileSync(ledgerPath(root), 'utf8').trimEnd().split('\n')
    const { entry_id: id } = JSON.parse(second ?? '')
    writeFileSync(ledgerPath(root), `${first}\n${second?.replace('b.ts', 'c.ts')}\n`)
    const changed = await runCli(['ledger', 'verify', '-w', root])
    expect(changed.code).toBe(1)
    expect(changed.stdout).toContain(`1 entry was changed: ${id}`)
    writeFileSync(ledgerPath(root), `${second}\n`)
    const { value, code } = await jsonOf(root, 'ledger', 'verify')
    expect(code).toBe(1)
    expect(value).toMatchObject({ valid: false, broken_chain_at: 0 })
    expect((await runCli(['ledger', 'verify', '-w', root])).stdout).toContain(
      'entry 1 does not follow the one before it',
    )
  })

  test('stats gives the hash to keep elsewhere', async () => {
    const root = await workspaceWithJournals()
    const last = readLines(ledgerPath(root)).at(-1)
    const { value } = await jsonOf(root, 'ledger', 'stats')
    expect(value).toMatchObject({ totalEntries: 2, uniqueTasks: 1, lastHash: last.entry_hash })
    const { stdout } = await runCli(['ledger', 'stats', '-w', root])
    expect(stdout).toContain('2 entries of 1 task')
    expect(stdout).toContain(`last hash: ${last.entry_hash}`)
  })
})

describe('baseline', () => {
  test('list has old and new ones, of all tasks or one', async () => {
    const root = await workspaceWithJournals()
    const baselines = { ...readBaselines(root), 'OLD:TASK:SPEC': 'c'.repeat(64) }
    writeFileSync(baselinesPath(root), JSON.stringify(baselines))
    const { value } = await jsonOf(root, 'baseline', 'list')
    expect(value.baselines).toHaveLength(4)
    const old = await jsonOf(root, 'baseline', 'list', '--task', 'OLD:TASK')
    expect(old.value.baselines).toEqual([{ taskId: 'OLD:TASK', phase: 'SPEC', hash: 'c'.repeat(64), version: 1 }])
    expect((await runCli(['baseline', 'list', '-w', root])).stdout).toMatch(
      /^OLD:TASK +SPEC +cccccccccccc +1 +- +- +-$/m,
    )
  })

  test('a damaged file is told, not taken for empty', async () => {
    const root = await workspaceWithJournals()
    writeFileSync(baselinesPath(root), '{"TASK-1:SPEC":')
    const { value, code } = await jsonOf(root, 'baseline', 'list')
    expect({ code, error: value.error.code }).toEqual({ code: 3, error: 'DAMAGED_BASELINES' })
  })

  test('reset --use-latest makes the latest prompt the baseline, with a note', async () => {
    const root = await workspaceWithJournals()
    const latest = readLines(attestationsPath(root)).findLast(({ phase }) => phase === 'VERIFY').prompt_hash
    const which = ['baseline', 'reset', '--task', 'TASK-1', '--phase', 'VERIFY', '--use-latest']

    const before = snapshot(root)
    const dry = await jsonOf(root, ...which, '--dry-run')
    expect(dry.value).toMatchObject({ dryRun: true, before: { version: 1 }, after: { hash: latest, version: 2 } })
    expect((await runCli([...which, '--dry-run', '-w', root])).stdout).toMatch(
      /^would reset the baseline of TASK-1 VERIFY/,
    )
    expect(snapshot(root)).toEqual(before)

    const notes = ['--reason', 'new gates', '--updated-by', 'ann', '--version-tag', 'v2']
    const { value, code } = await jsonOf(root, ...which, ...notes)
    expect(code).toBe(0)
    const noted = { hash: latest, version: 2, reason: 'new gates', updatedBy: 'ann', versionTag: 'v2' }
    expect(value.after).toMatchObject(noted)
    expect(readBaselines(root)['TASK-1:VERIFY']).toMatchObject(noted)
    expect(readLines(updatesPath(root)).at(-1)).toMatchObject({ taskId: 'TASK-1', phase: 'VERIFY', ...noted })
    const { hasDrift } = await new PromptAttestationManager(root).attest(promptOf('TASK-1', 'VERIFY', 'second'))
    expect(hasDrift).toBe(false)
  })

  test('reset --hash sets that one, also where there was none', async () => {
    const root = await workspaceWithJournals()
    const hash = 'd'.repeat(64)
    const { stdout, code } = await runCli(['baseline', 'reset', '-t', 'NEW', '-p', 'PLAN', '--hash', hash, '-w', root])
    expect(code).toBe(0)
    expect(stdout).toBe(`reset the baseline of NEW PLAN\nfrom none\nto   ${hash} (version 1)\n`)
    expect(readBaselines(root)['NEW:PLAN']).toMatchObject({ hash, version: 1 })
  })

  test('reset --use-latest of what was never attested changes nothing', async () => {
    const root = await workspaceWithJournals()
    const before = snapshot(root)
    const { value, code } = await jsonOf(root, 'baseline', 'reset', '-t', 'TASK-1', '-p', 'PR', '--use-latest')
    expect({ code, error: value.error.code }).toEqual({ code: 3, error: 'NO_ATTESTATION' })
    expect(snapshot(root)).toEqual(before)
  })
})
