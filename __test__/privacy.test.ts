import { mkdirSync, writeFileSync } from 'node:fs'
import { afterEach, expect, test } from 'vitest'
import {
  acquireLock,
  type LogEvent,
  PhaseLeaseManager,
  PhaseLedger,
  PromptAttestationManager,
  releaseLock,
  setLogger,
  setLogLevel,
  withFileLock,
} from '../index.js'
import { makeSpec } from './helpers/shapes.js'
import { sleep } from './helpers/wait.js'
import {
  attestationsPath,
  baselinesPath,
  ledgerPath,
  makeWorkspace,
  openLeases,
  processPath,
} from './helpers/workspace.js'

afterEach(() => {
  setLogger(null)
  setLogLevel('warning')
})

const SECRET = 'sk-SECRET-text'

// biome-ignore lint/suspicious/noExplicitAny: what a caller in plain JavaScript passes
type Any = any

test('what callers pass is in no message, wherever they pass it', async () => {
  const root = makeWorkspace()
  const events: LogEvent[] = []
  setLogger((event) => events.push(event))
  setLogLevel('info')
  const said: string[] = []
  const hear = (error: unknown): void => void said.push(String((error as Error).stack))
  const attempt = async (call: () => unknown): Promise<void> => {
    try {
      const answer = await call()
      // Answers give reasons; what the caller has passed on purpose is in others of their fields.
      for (const field of ['reason', 'error', 'driftDetails'] as const) said.push(String((answer as Any)?.[field]))
    } catch (error) {
      hear(error)
    }
  }
  const prompts = new PromptAttestationManager(root)
  const ledger: Any = new PhaseLedger(root)
  const leases: Any = openLeases(root, { agentId: 'a' })
  const odd: unknown[] = [`${SECRET}:`, [SECRET], { [SECRET]: SECRET }, () => SECRET, Symbol(SECRET), SECRET]
  for (const value of odd as Any[]) {
    await attempt(() => new PhaseLeaseManager(root, value))
    await attempt(() => new PhaseLeaseManager(root, { leaseDuration: value }))
    await attempt(() => new PhaseLeaseManager(root, { maxRenewals: value }))
    await attempt(() => new PhaseLeaseManager(root, { networkFileSystem: value }))
    await attempt(() => leases.acquireLease(value, value))
    await attempt(() => leases.renewLease(value, value))
    await attempt(() => leases.releaseLease(value, value))
    await attempt(() => leases.getLease(value, value))
    for (const field of [
      'phase',
      'taskId',
      'requirements',
      'artifacts',
      'contextSummary',
      'personaHash',
      'agentType',
    ]) {
      await attempt(() => prompts.attest(makeSpec({ [field]: value })))
    }
    await attempt(() => prompts.attest(makeSpec({ requirements: [SECRET, value] })))
    await attempt(() => prompts.resetBaseline('T', value, SECRET))
    await attempt(() => prompts.resetBaseline('T', 'SPEC', value, value))
    await attempt(() => ledger.appendTransition(value, value, value, value, value, value))
    await attempt(() => acquireLock(`${root}/lock`, value))
    await releaseLock(`${root}/lock`)
    await attempt(() => withFileLock(`${root}/lock`, value, { timeout: value }))
  }
  // Damaged files, and files that can't be used.
  mkdirSync(processPath(root), { recursive: true })
  for (const path of [baselinesPath(root), attestationsPath(root), ledgerPath(root)]) writeFileSync(path, `{"${SECRET}`)
  await attempt(() => prompts.attest(makeSpec({ contextSummary: SECRET })))
  await attempt(() => ledger.verify())
  await attempt(() => ledger.appendTransition(SECRET, null, SECRET, [SECRET], true))
  leases.close()
  await attempt(() => leases.acquireLease(SECRET, SECRET))
  await attempt(() => leases.holdsLease(SECRET, SECRET))
  await sleep(50)
  expect(events.length).toBeGreaterThan(0)
  expect(said.length).toBeGreaterThan(50)
  for (const message of [...said, ...events.map((event) => JSON.stringify(event))])
    expect(message).not.toContain(SECRET)
})
