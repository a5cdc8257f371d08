// The check must go red for every kind of damage; a check that is always green proves nothing.

import { randomUUID } from 'node:crypto'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { afterEach, describe, expect, it } from 'vitest'
import { attestation, DRIFT, drift, healthyResults, rechain, TASKS, transition } from './check.fixtures.mjs'
import { checkResults } from './check.mjs'
import { readResults } from './results.mjs'
import { driftKeys, keyOf } from './tasks.mjs'

const KILLED = keyOf('A-2', 'PLAN')

/** @param {Partial<import('./check.mjs').Expectation>} changes */
const expectation = (changes = {}) => ({ tasks: TASKS, driftKeys: DRIFT, interrupted: new Map(), ...changes })

/** @param {(results: ReturnType<typeof healthyResults>) => void} damage */
function violationsAfter(damage, changes = {}) {
  const results = healthyResults()
  damage(results)
  return checkResults(results, expectation(changes))
}

describe('a healthy run', () => {
  it('has no violations', () => {
    expect(violationsAfter(() => {})).toEqual([])
  })

  it('may attest a phase again that an agent began in vain', () => {
    const again = ({ attestations }) => {
      const first = attestations.find((record) => keyOf(record.task_id, record.phase) === KILLED)
      attestations.push({ ...first, attestation_id: randomUUID(), baseline_hash: first.prompt_hash })
    }
    expect(violationsAfter(again, { interrupted: new Map([[KILLED, 1]]) })).toEqual([])
    expect(violationsAfter(again)).toEqual([expect.stringContaining(`${KILLED} was attested 2 times`)])
  })
})

describe('the ledger', () => {
  // With the chain mended, the damage itself must be found.
  const mended =
    (damage) =>
    ({ ledger }) => {
      damage(ledger)
      rechain(ledger)
    }
  it.each([
    ['a lost line', ({ ledger }) => ledger.splice(4, 1), 'chain is broken at entry 4'],
    ['a changed field', ({ ledger }) => Object.assign(ledger[7], { duration_ms: 1 }), 'entry 7 has a wrong entry_hash'],
    ['a lost last line', ({ ledger }) => ledger.pop(), 'A-3:MONITOR was done 0 times'],
    ['no lines at all', ({ ledger }) => ledger.splice(0), 'A-1:STRATEGIZE was done 0 times'],
    ['a lost line, mended', mended((l) => l.splice(4, 1)), 'A-1:IMPLEMENT was done 0 times'],
    ['a duplicate', mended((l) => l.push({ ...l[2], entry_id: randomUUID() })), 'A-1:PLAN was done 2 times'],
    ['a repeated id', mended((l) => Object.assign(l[3], { entry_id: l[2].entry_id })), 'repeats entry_id'],
    ['two phases swapped', mended((l) => l.splice(1, 2, l[2], l[1])), 'leaves the order of phases'],
    ['a wrong from_phase', mended((l) => Object.assign(l[2], { from_phase: null })), 'of phases with null → PLAN'],
    ['another task', mended((l) => l.push(transition('B-1', null, 'SPEC', ''))), 'B-1 is no task of this run'],
    ['an unknown phase', mended((l) => l.push(transition('A-1', 'MONITOR', 'THINK', ''))), 'MONITOR → THINK'],
    [
      'another prompt',
      mended((l) => Object.assign(l[5], { evidence_artifacts: ['prompt:0'] })),
      'does not name the prompt',
    ],
  ])('%s', (_name, damage, message) => {
    expect(violationsAfter(damage).join('\n')).toContain(message)
  })
})

describe('the attestations', () => {
  const injected = (list) => list.findIndex((record) => record.drift_detected)
  const change =
    (fields) =>
    ({ attestations: list }) =>
      Object.assign(list[injected(list)], fields)
  it.each([
    ['a lost record', ({ attestations }) => attestations.pop(), 'A-3:MONITOR was attested 0 times'],
    ['a duplicate', ({ attestations: list }) => list.push(list[0]), 'not exactly one first attestation'],
    ['an extra drift', ({ attestations }) => attestations.push(drift(TASKS[1], 'PR')), 'A-2:PR drifted 1 times'],
    ['a drift twice', ({ attestations: list }) => list.push(list[injected(list)]), 'drifted 2 times instead of 1'],
    ['a drift lost', ({ attestations: list }) => list.splice(injected(list), 1), 'drifted 0 times instead of 1'],
    ['a drift unseen', change({ drift_detected: false }), 'drifted 0 times instead of 1'],
    ['a wrong severity', change({ severity: 'none' }), 'wrong severity'],
    ['a wrong baseline', change({ baseline_hash: '0' }), 'compared with a wrong baseline'],
    [
      'a wrong hash',
      ({ attestations: list }) => Object.assign(list[3], { prompt_hash: '0' }),
      'not with its own prompt',
    ],
    [
      'another task',
      ({ attestations: list }) => list.push(attestation({ taskId: 'B-1' }, 'PR', '0', {})),
      'B-1:PR is nothing of this run',
    ],
  ])('%s', (_name, damage, message) => {
    expect(violationsAfter(damage).join('\n')).toContain(message)
  })
})

describe('the baselines', () => {
  it.each([
    ['a missing one', ({ baselines }) => delete baselines[KILLED], `${KILLED} is missing`],
    [
      'a changed one',
      ({ baselines }) => Object.assign(baselines[KILLED], { hash: '0' }),
      `${KILLED} is not its first prompt`,
    ],
    [
      'a reset one',
      ({ baselines }) => Object.assign(baselines[KILLED], { version: 2 }),
      `${KILLED} is not its first prompt`,
    ],
    [
      'one too many',
      ({ baselines }) => Object.assign(baselines, { 'B-1:PR': baselines[KILLED] }),
      'B-1:PR is nothing of this run',
    ],
  ])('%s', (_name, damage, message) => {
    expect(violationsAfter(damage)).toEqual([expect.stringContaining(message)])
  })
})

describe('the leases', () => {
  const left =
    (/** @type {number} */ secondsLeft) =>
    ({ leases }) => {
      const expires_at = new Date(Date.now() + secondsLeft * 1_000).toISOString()
      leases.push({ task_id: 'A-2', phase: 'PLAN', agent_id: 'agent-2', expires_at })
    }
  const interrupted = new Map([[KILLED, 1]])

  it('must all be gone', () => {
    expect(violationsAfter(left(-1))).toEqual([expect.stringContaining('held by agent-2')])
  })

  it('may be left by a killed agent if they have ended', () => {
    expect(violationsAfter(left(-1), { interrupted })).toEqual([])
    expect(violationsAfter(left(60), { interrupted })).toHaveLength(1)
  })
})

describe('the files', () => {
  /** @type {string} */
  let workspace
  afterEach(() => rmSync(workspace, { recursive: true, force: true }))

  /** @param {(files: Record<string, string>) => void} damage */
  async function readAfter(damage) {
    workspace = mkdtempSync(join(tmpdir(), 'driftlock-check-'))
    const directory = join(workspace, 'state', 'process')
    mkdirSync(directory, { recursive: true })
    const database = new Database(join(workspace, 'state', 'orchestrator.db'))
    database.exec('CREATE TABLE phase_leases (task_id TEXT, phase TEXT, agent_id TEXT, expires_at TEXT)')
    database.close()
    const { ledger, attestations, baselines } = healthyResults()
    const lines = (/** @type {object[]} */ list) => list.map((value) => `${JSON.stringify(value)}\n`).join('')
    /** @type {Record<string, string>} */
    const files = {
      'ledger.jsonl': lines(ledger),
      'prompt_attestations.jsonl': lines(attestations),
      'prompt_baselines.json': JSON.stringify(baselines),
    }
    damage(files)
    for (const [name, text] of Object.entries(files)) writeFileSync(join(directory, name), text)
    const { results, violations } = await readResults(workspace)
    return [...violations, ...checkResults(results, expectation())]
  }

  it('are read without violations when whole', async () => {
    expect(await readAfter(() => {})).toEqual([])
  })

  it.each([
    ['a torn line', 'ledger.jsonl', (text) => text.slice(0, 200) + text.slice(300), 'line 1 is not JSON'],
    ['an empty line in the middle', 'ledger.jsonl', (text) => text.replace('\n', '\n\n'), 'line 2 is not JSON'],
    ['a last line without its end', 'ledger.jsonl', (text) => text.slice(0, -1), 'the last line is not finished'],
    ['an empty ledger', 'ledger.jsonl', () => '', 'A-1:STRATEGIZE was done 0 times'],
    ['torn baselines', 'prompt_baselines.json', (text) => text.slice(0, -20), 'prompt_baselines.json is not JSON'],
    ['emptied baselines', 'prompt_baselines.json', () => '{}', 'A-1:STRATEGIZE is missing'],
  ])('%s', async (_name, file, damage, message) => {
    const violations = await readAfter((files) => Object.assign(files, { [file]: damage(files[file]) }))
    expect(violations.join('\n')).toContain(message)
  })

  it('a missing file', async () => {
    expect((await readAfter((files) => delete files['ledger.jsonl'])).join('\n')).toContain('ledger.jsonl: ENOENT')
  })
})

describe('the choice of prompts to change', () => {
  it('is spread over all pairs, and as many as asked for', () => {
    expect([...driftKeys(TASKS, 3)]).toEqual(['A-1:STRATEGIZE', 'A-2:STRATEGIZE', 'A-3:STRATEGIZE'])
    for (const count of [0, 1, 2, 7, 26, 27]) expect(driftKeys(TASKS, count).size).toBe(count)
  })
})
