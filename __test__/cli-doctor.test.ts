import { appendFileSync, existsSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { jsonOf, runCli, workspaceWithJournals } from './helpers/cli.js'
import { oldWorkspace } from './helpers/old-code.js'
import {
  attestationsPath,
  baselinesPath,
  ledgerPath,
  makeWorkspace,
  openLeases,
  processPath,
  readBaselines,
  snapshot,
} from './helpers/workspace.js'

interface Check {
  check: string
  result: string
  found: string
  advice?: string
}

/** What the doctor says of a workspace that is whole but for what `harm` does to it. */
async function afterHarm(
  harm: (root: string) => void,
): Promise<{ code: number | null; problems: Check[]; checks: Check[] }> {
  const root = await workspaceWithJournals()
  openLeases(root)
  harm(root)
  const { value, code } = await jsonOf(root, 'doctor')
  const checks = value.checks as Check[]
  return { code, checks, problems: checks.filter(({ result }) => result === 'problem') }
}

describe('doctor', () => {
  test('finds nothing wrong with a whole workspace', async () => {
    const { code, problems, checks } = await afterHarm(() => {})
    expect(problems).toEqual([])
    expect(code).toBe(0)
    expect(checks.map(({ check }) => check)).toEqual([
      'versions',
      'workspace',
      'database',
      'file system',
      'schema',
      'clock',
      'attestations',
      'updates',
      'ledger',
      'counters',
      'baselines',
      'chain',
      'leftovers',
    ])
    expect(checks[0]?.found).toMatch(/driftlock \d.*Node \d.*\.node$/)
  })

  const harms: [string, (root: string) => void, string, RegExp][] = [
    [
      'a damaged line',
      (root) => appendFileSync(attestationsPath(root), 'x\n'),
      'attestations',
      /7 lines.*first line 7/,
    ],
    [
      'baselines that are not JSON',
      (root) => writeFileSync(baselinesPath(root), '{"a'),
      'baselines',
      /is not one JSON object/,
    ],
    [
      'a baseline of a wrong shape',
      (root) => writeFileSync(baselinesPath(root), JSON.stringify({ ...readBaselines(root), 'T:SPEC': 7 })),
      'baselines',
      /1 entry .* can't be baselines: T:SPEC/,
    ],
    [
      'a changed ledger',
      (root) => writeFileSync(ledgerPath(root), readFileSync(ledgerPath(root), 'utf8').replace('spec.md', 'spac.md')),
      'chain',
      /broken or entries were changed/,
    ],
    [
      'what was put aside',
      (root) => writeFileSync(processPath(root, 'prompt_baselines.json.damaged-2026-01-01-ab'), ''),
      'leftovers',
      /1 file was damaged and put aside/,
    ],
    [
      'an old temporary file',
      (root) => {
        const path = join(root, 'state', `a.${'0'.repeat(32)}.tmp`)
        writeFileSync(path, '')
        utimesSync(path, new Date(0), new Date(0))
      },
      'leftovers',
      /1 temporary file of a crash/,
    ],
  ]

  test.each(harms)('finds %s, and says what to do', async (_name, harm, check, found) => {
    const { code, problems } = await afterHarm(harm)
    expect(problems).toEqual([
      { check, result: 'problem', found: expect.stringMatching(found), advice: expect.any(String) },
    ])
    expect(code).toBe(1)
  })

  test('a temporary file of this moment and a line without an end are no problem', async () => {
    const { code, checks } = await afterHarm((root) => {
      writeFileSync(join(root, 'state', `a.${'0'.repeat(32)}.tmp`), '')
      appendFileSync(attestationsPath(root), '{"half')
    })
    expect(code).toBe(0)
    expect(checks).toContainEqual(expect.objectContaining({ check: 'attestations', result: 'note' }))
  })

  test('tells of the old schema', async () => {
    const { value } = await jsonOf(oldWorkspace(), 'doctor')
    expect(value.checks).toContainEqual(expect.objectContaining({ check: 'schema', result: 'note' }))
  })

  test('people see each problem with what to do, and their number', async () => {
    const root = await workspaceWithJournals()
    appendFileSync(attestationsPath(root), 'x\n')
    const { stdout, code } = await runCli(['doctor', '-w', root])
    expect(code).toBe(1)
    expect(stdout).toMatch(/^PROBLEM {2}attestations .*\n +→ readers skip them/m)
    expect(stdout).toMatch(/\n\n1 problem\n$/)
  })
})

describe('bench', () => {
  test('measures in a temporary workspace that it removes', async () => {
    const folder = makeWorkspace()
    const { stdout, code } = await runCli(['bench', '--iterations', '20', '--folder', folder, '--json'])
    expect(code).toBe(0)
    const { operations, iterations } = JSON.parse(stdout)
    expect(iterations).toBe(20)
    expect(operations).toHaveLength(5)
    for (const { p50, p99, max } of operations) {
      expect(p50).toBeGreaterThan(0)
      expect(p99).toBeGreaterThanOrEqual(p50)
      expect(max).toBeGreaterThanOrEqual(p99)
    }
    expect(snapshot(folder)).toEqual({})
    const table = await runCli(['bench', '--iterations', '5', '--folder', folder])
    expect(table.stdout).toMatch(/^OPERATION +P50 +P95 +P99 +MAX$/m)
    expect(table.stdout).toMatch(/^acquire \+ release a lease +[\d.]+ [µm]s/m)
  })

  test('a folder that is not there is told', async () => {
    const folder = makeWorkspace()
    rmSync(folder, { recursive: true })
    const { stderr, code } = await runCli(['bench', '--folder', folder])
    expect(code).toBe(3)
    expect(stderr).toContain('ENOENT')
    expect(existsSync(folder)).toBe(false)
  })
})
