import { type ChildProcess, spawn } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { onTestFinished } from 'vitest'
import { PhaseLedger, PromptAttestationManager } from '../../index.js'
import { type Ended, runNode } from './peer.js'
import { attestationsPath, type Json, makeWorkspace } from './workspace.js'

export const cliEntry = join(__dirname, '..', '..', 'bin', 'driftlock.js')

/** A name that would colour the terminal, turn the text around and ring the bell, if it were let through. */
export const HOSTILE = 'T\u001b[31m\u202e\u0007\u009b31m<img src=x onerror=alert(1)>'
export const HOSTILE_SHOWN = 'T\\u{1b}[31m\\u{202e}\\u{7}\\u{9b}31m<img src=x onerror=alert(1)>'
/** What must never reach a terminal from elsewhere: controls but line ends, and what can't be seen. */
export const UNSAFE = /(?!\n)[\p{Cc}\p{Cf}]/u

/** Runs the command in a process of its own. */
export function runCli(args: string[], options: Parameters<typeof runNode>[1] = {}): Promise<Ended> {
  return runNode([cliEntry, ...args], options)
}

/** Runs it on a workspace with `--json`; answers the one document that it printed, and the exit code. */
export async function jsonOf(root: string, ...args: string[]): Promise<{ value: Json; code: number | null }> {
  const { stdout, code } = await runCli([...args, '--json', '--workspace', root])
  return { value: JSON.parse(stdout) as Json, code }
}

/** The command while it runs. It ends with the test. */
export interface Running {
  child: ChildProcess
  output(): string
  errors(): string
  ended: Promise<number | null>
}

export function startCli(args: string[]): Running {
  const child = spawn(process.execPath, [cliEntry, ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
  let [stdout, stderr] = ['', '']
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text))
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text))
  const ended = new Promise<number | null>((resolve) => child.on('close', resolve))
  onTestFinished(async () => {
    child.kill('SIGKILL')
    await ended
  })
  return { child, output: () => stdout, errors: () => stderr, ended }
}

/** A prompt; `context` decides whether it drifts. */
export const promptOf = (taskId: string, phase: string, context: string) => ({
  phase,
  taskId,
  timestamp: '',
  requirements: [],
  qualityGates: [],
  artifacts: [],
  contextSummary: context,
  agentType: 'coder',
})

/** A workspace with drift of each severity, a ledger of two entries, and no database. */
export async function workspaceWithJournals(taskId = 'TASK-1'): Promise<string> {
  const root = makeWorkspace()
  const prompts = new PromptAttestationManager(root)
  await prompts.initialize()
  for (const phase of ['SPEC', 'IMPLEMENT', 'VERIFY']) {
    for (const context of ['first', 'second']) await prompts.attest(promptOf(taskId, phase, context))
  }
  const ledger = new PhaseLedger(root)
  await ledger.initialize()
  await ledger.appendTransition(taskId, null, 'SPEC', ['spec.md'], true)
  await ledger.appendTransition(taskId, 'SPEC', 'IMPLEMENT', ['a.ts', 'b.ts'], false, { agentType: 'coder' })
  return root
}

/** Puts a log of attestations in place. */
export function writeAttestations(root: string, records: object[]): void {
  mkdirSync(dirname(attestationsPath(root)), { recursive: true })
  writeFileSync(attestationsPath(root), records.map((record) => `${JSON.stringify(record)}\n`).join(''))
}

/** A record of a drift of a severity, so long ago. */
export const driftRecord = (severity: string | undefined, ageMs: number, more: object = {}) => ({
  attestation_id: '0',
  task_id: 'TASK-1',
  phase: 'SPEC',
  prompt_hash: 'b'.repeat(64),
  baseline_hash: 'a'.repeat(64),
  drift_detected: true,
  timestamp: new Date(Date.now() - ageMs).toISOString(),
  persona_drift: false,
  ...(severity && { severity }),
  ...more,
})
