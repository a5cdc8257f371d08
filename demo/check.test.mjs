// The check must go red for every kind of damage; a check that is always green proves nothing.

import { randomUUID } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { afterEach, describe, expect, it } from 'vitest';
import { checkResults, entryHash, promptHash } from './check.mjs';
import { readResults } from './results.mjs';
import { PHASES, changedPromptFor, driftKeys, keyOf, promptFor } from './tasks.mjs';

const TASKS = [
  { taskId: 'A-1', title: 'First', requirements: ['test:one', 'artifact:two'], contextSummary: 'some context' },
  { taskId: 'A-2', title: 'No requirements', requirements: [], contextSummary: '' },
  { taskId: 'A-3', title: 'Half a pair', requirements: ['metric:R² > 0.5'], contextSummary: '👍'.repeat(300) },
];
const DRIFT = driftKeys(TASKS, 3);
const KILLED = keyOf('A-2', 'PLAN');

/** @param {Partial<import('./check.mjs').Expectation>} changes */
const expectation = (changes = {}) => ({ tasks: TASKS, driftKeys: DRIFT, interrupted: new Map(), ...changes });

/** What a run without any fault leaves, made without the package. */
function healthyResults() {
  const results = { ledger: [], attestations: [], baselines: {}, leases: [] };
  for (const task of TASKS) {
    for (const [index, phase] of PHASES.entries()) {
      const hash = promptHash(promptFor(task, phase));
      results.baselines[keyOf(task.taskId, phase)] = { hash, version: 1, updatedAt: new Date().toISOString() };
      results.attestations.push(attestation(task, phase, hash, {}));
      results.ledger.push(transition(task.taskId, PHASES[index - 1] ?? null, phase, hash));
      if (DRIFT.has(keyOf(task.taskId, phase))) results.attestations.push(drift(task, phase));
    }
  }
  rechain(results.ledger);
  return results;
}

function attestation(task, phase, hash, changes) {
  return {
    attestation_id: randomUUID(), task_id: task.taskId, phase, prompt_hash: hash,
    drift_detected: false, persona_drift: false, severity: 'none', baseline_version: 1, ...changes,
  };
}

function drift(task, phase) {
  const severities = { VERIFY: 'high', REVIEW: 'high', MONITOR: 'high', IMPLEMENT: 'medium', PR: 'medium' };
  return attestation(task, phase, promptHash(changedPromptFor(task, phase)), {
    baseline_hash: promptHash(promptFor(task, phase)), drift_detected: true, severity: severities[phase] ?? 'low',
  });
}

function transition(taskId, from, to, hash) {
  return {
    entry_id: randomUUID(), timestamp: new Date().toISOString(), previous_hash: '', entry_hash: '', task_id: taskId,
    from_phase: from, to_phase: to, evidence_artifacts: [`prompt:${hash}`], evidence_validated: true,
    agent_type: 'agent-1', duration_ms: 5,
  };
}

/** Makes the chain whole again, so that a test shows that the damage itself is found, not the broken chain. */
function rechain(ledger) {
  let previous = 'genesis';
  for (const entry of ledger) {
    entry.previous_hash = previous;
    entry.entry_hash = previous = entryHash(entry);
  }
}

/** @param {(results: ReturnType<typeof healthyResults>) => void} damage */
function violationsAfter(damage, changes = {}) {
  const results = healthyResults();
  damage(results);
  return checkResults(results, expectation(changes));
}

describe('a healthy run', () => {
  it('has no violations', () => {
    expect(violationsAfter(() => {})).toEqual([]);
  });

  it('may attest a phase again that an agent began in vain', () => {
    const again = ({ attestations }) => {
      const first = attestations.find((record) => keyOf(record.task_id, record.phase) === KILLED);
      attestations.push({ ...first, attestation_id: randomUUID(), baseline_hash: first.prompt_hash });
    };
    expect(violationsAfter(again, { interrupted: new Map([[KILLED, 1]]) })).toEqual([]);
    expect(violationsAfter(again)).toEqual([expect.stringContaining(`${KILLED} was attested 2 times`)]);
  });
});

describe('the ledger', () => {
  it.each([
    ['a lost line', ({ ledger }) => ledger.splice(4, 1), 'chain is broken at entry 4'],
    ['a lost line, chain mended', ({ ledger }) => (ledger.splice(4, 1), rechain(ledger)), 'A-1:IMPLEMENT was done 0 times'],
    ['a lost last line', ({ ledger }) => ledger.pop(), 'A-3:MONITOR was done 0 times'],
    ['no lines at all', ({ ledger }) => ledger.splice(0), 'A-1:STRATEGIZE was done 0 times'],
    ['a duplicate transition', ({ ledger }) => (ledger.push({ ...ledger[2], entry_id: randomUUID() }), rechain(ledger)), 'A-1:PLAN was done 2 times'],
    ['a repeated entry id', ({ ledger }) => ((ledger[3].entry_id = ledger[2].entry_id), rechain(ledger)), 'repeats entry_id'],
    ['two phases swapped', ({ ledger }) => (ledger.splice(1, 2, ledger[2], ledger[1]), rechain(ledger)), 'leaves the order of phases'],
    ['a wrong from_phase', ({ ledger }) => ((ledger[2].from_phase = null), rechain(ledger)), 'leaves the order of phases with null → PLAN'],
    ['a changed field', ({ ledger }) => (ledger[7].duration_ms = 1), 'entry 7 has a wrong entry_hash'],
    ['an entry of another task', ({ ledger }) => (ledger.push(transition('B-1', null, 'SPEC', '')), rechain(ledger)), 'B-1 is no task of this run'],
    ['an unknown phase', ({ ledger }) => (ledger.push(transition('A-1', 'MONITOR', 'THINK', '')), rechain(ledger)), 'MONITOR → THINK'],
    ['evidence of another prompt', ({ ledger }) => ((ledger[5].evidence_artifacts = ['prompt:0']), rechain(ledger)), 'does not name the prompt'],
  ])('%s', (_name, damage, message) => {
    expect(violationsAfter(damage).join('\n')).toContain(message);
  });
});

describe('the attestations', () => {
  const injected = ({ attestations }) => attestations.findIndex((record) => record.drift_detected);
  it.each([
    ['a lost record', ({ attestations }) => attestations.pop(), 'A-3:MONITOR was attested 0 times'],
    ['a duplicate record', ({ attestations }) => attestations.push(attestations[0]), 'not exactly one first attestation'],
    ['an extra drift', ({ attestations }) => attestations.push(drift(TASKS[1], 'PR')), 'A-2:PR drifted 1 times instead of 0'],
    ['an injected drift twice', (results) => results.attestations.push(results.attestations[injected(results)]), 'drifted 2 times instead of 1'],
    ['an injected drift unseen', (results) => (results.attestations[injected(results)].drift_detected = false), 'drifted 0 times instead of 1'],
    ['an injected drift lost', (results) => results.attestations.splice(injected(results), 1), 'drifted 0 times instead of 1'],
    ['a wrong severity', (results) => (results.attestations[injected(results)].severity = 'none'), 'wrong severity'],
    ['a wrong prompt hash', ({ attestations }) => (attestations[3].prompt_hash = '0'), 'not with its own prompt'],
    ['a wrong baseline', (results) => (results.attestations[injected(results)].baseline_hash = '0'), 'compared with a wrong baseline'],
    ['a record of another task', ({ attestations }) => attestations.push(attestation({ taskId: 'B-1' }, 'PR', '0', {})), 'B-1:PR is nothing of this run'],
  ])('%s', (_name, damage, message) => {
    expect(violationsAfter(damage).join('\n')).toContain(message);
  });
});

describe('the baselines', () => {
  it.each([
    ['a missing one', ({ baselines }) => delete baselines[KILLED], `${KILLED} is missing`],
    ['a changed one', ({ baselines }) => (baselines[KILLED].hash = '0'), `${KILLED} is not its first prompt`],
    ['a reset one', ({ baselines }) => (baselines[KILLED].version = 2), `${KILLED} is not its first prompt`],
    ['one too many', ({ baselines }) => (baselines['B-1:PR'] = baselines[KILLED]), 'B-1:PR is nothing of this run'],
  ])('%s', (_name, damage, message) => {
    expect(violationsAfter(damage)).toEqual([expect.stringContaining(message)]);
  });
});

describe('the leases', () => {
  const left = (/** @type {number} */ secondsLeft) => ({ leases }) => {
    const expires_at = new Date(Date.now() + secondsLeft * 1_000).toISOString();
    leases.push({ task_id: 'A-2', phase: 'PLAN', agent_id: 'agent-2', expires_at });
  };
  const interrupted = new Map([[KILLED, 1]]);

  it('must all be gone', () => {
    expect(violationsAfter(left(-1))).toEqual([expect.stringContaining('held by agent-2')]);
  });

  it('may be left by a killed agent if they have ended', () => {
    expect(violationsAfter(left(-1), { interrupted })).toEqual([]);
    expect(violationsAfter(left(60), { interrupted })).toHaveLength(1);
  });
});

describe('the files', () => {
  /** @type {string} */
  let workspace;
  afterEach(() => rmSync(workspace, { recursive: true, force: true }));

  /** @param {(files: Record<string, string>) => void} damage */
  async function readAfter(damage) {
    workspace = mkdtempSync(join(tmpdir(), 'driftlock-check-'));
    const directory = join(workspace, 'state', 'process');
    mkdirSync(directory, { recursive: true });
    const database = new Database(join(workspace, 'state', 'orchestrator.db'));
    database.exec('CREATE TABLE phase_leases (task_id TEXT, phase TEXT, agent_id TEXT, expires_at TEXT)');
    database.close();
    const { ledger, attestations, baselines } = healthyResults();
    const lines = (/** @type {object[]} */ list) => list.map((value) => `${JSON.stringify(value)}\n`).join('');
    /** @type {Record<string, string>} */
    const files = {
      'ledger.jsonl': lines(ledger),
      'prompt_attestations.jsonl': lines(attestations),
      'prompt_baselines.json': JSON.stringify(baselines),
    };
    damage(files);
    for (const [name, text] of Object.entries(files)) writeFileSync(join(directory, name), text);
    const { results, violations } = await readResults(workspace);
    return [...violations, ...checkResults(results, expectation())];
  }

  it('are read without violations when whole', async () => {
    expect(await readAfter(() => {})).toEqual([]);
  });

  it.each([
    ['a torn line', 'ledger.jsonl', (text) => text.slice(0, 200) + text.slice(300), 'line 1 is not JSON'],
    ['an empty line in the middle', 'ledger.jsonl', (text) => text.replace('\n', '\n\n'), 'line 2 is not JSON'],
    ['a last line without its end', 'ledger.jsonl', (text) => text.slice(0, -1), 'the last line is not finished'],
    ['an empty ledger', 'ledger.jsonl', () => '', 'A-1:STRATEGIZE was done 0 times'],
    ['torn baselines', 'prompt_baselines.json', (text) => text.slice(0, -20), 'prompt_baselines.json is not JSON'],
    ['emptied baselines', 'prompt_baselines.json', () => '{}', 'A-1:STRATEGIZE is missing'],
  ])('%s', async (_name, file, damage, message) => {
    expect((await readAfter((files) => (files[file] = damage(files[file])))).join('\n')).toContain(message);
  });

  it('a missing file', async () => {
    expect((await readAfter((files) => delete files['ledger.jsonl'])).join('\n')).toContain('ledger.jsonl: ENOENT');
  });
});

describe('the choice of prompts to change', () => {
  it('is spread over all pairs, and as many as asked for', () => {
    expect([...driftKeys(TASKS, 3)]).toEqual(['A-1:STRATEGIZE', 'A-2:STRATEGIZE', 'A-3:STRATEGIZE']);
    for (const count of [0, 1, 2, 7, 26, 27]) expect(driftKeys(TASKS, count).size).toBe(count);
  });
});
