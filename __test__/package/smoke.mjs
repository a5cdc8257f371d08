// Uses every part of the installed package once. Runs under Node, Bun and Deno alike.
import assert from 'node:assert'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as driftlock from 'driftlock'

const workspace = mkdtempSync(join(tmpdir(), 'driftlock-smoke-'))
let passed = 0

await check('leases', async () => {
  const [a, b] = ['a', 'b'].map((agentId) => new driftlock.PhaseLeaseManager(workspace, { agentId }))
  const taken = await a.acquireLease('T-1', 'PLAN')
  assert.strictEqual(taken.acquired, true, taken.reason)
  assert.strictEqual(a.holdsLease('T-1', 'PLAN'), true)
  const refused = await b.acquireLease('T-1', 'PLAN')
  assert.strictEqual(refused.reason, 'Lease already held by another agent')
  assert.strictEqual(refused.holder, 'a')
  assert.strictEqual((await a.renewLease('T-1', 'PLAN')).renewed, true)
  assert.strictEqual(b.getLease('T-1', 'PLAN').renewed_count, 1)
  assert.strictEqual(await a.releaseLease('T-1', 'PLAN'), true)
  assert.strictEqual((await b.acquireLease('T-1', 'PLAN')).acquired, true)
  assert.strictEqual((await b.getStats()).totalLeases, 1)
  a.close()
  b.close()
})

await check('held leases', async () => {
  const [a, b] = ['a', 'b'].map(
    (agentId) => new driftlock.PhaseLeaseManager(workspace, { agentId, leaseDuration: 0.5 }),
  )
  const lease = await a.hold('T-2', 'PLAN')
  const waiting = b.hold('T-2', 'PLAN', { waitMs: 10_000 })
  await new Promise((resolve) => setTimeout(resolve, 800))
  assert.strictEqual(lease.signal.aborted, false)
  assert.strictEqual(await lease.release(), true)
  const next = await waiting
  const path = join(workspace, 'fenced')
  await driftlock.fencedWriteFile(path, 'new', next.fence)
  await assert.rejects(driftlock.fencedWriteFile(path, 'old', lease.fence), { code: 'FENCED' })
  assert.strictEqual(readFileSync(path, 'utf8'), 'new')
  await next[Symbol.asyncDispose]()
  a.close()
  b.close()
})

await check('attestations', async () => {
  const manager = new driftlock.PromptAttestationManager(workspace)
  await manager.initialize()
  const lists = { requirements: ['two', 'one'], qualityGates: [], artifacts: [] }
  const spec = { phase: 'VERIFY', taskId: 'T-1', timestamp: '', ...lists, contextSummary: 'half a pair: \ud83d' }
  const first = await manager.attest(spec)
  assert.match(first.currentHash, /^[0-9a-f]{64}$/)
  assert.strictEqual(first.hasDrift, false)
  const second = await manager.attest({ ...spec, contextSummary: 'half a pair: \ud83e' })
  assert.strictEqual(second.hasDrift, true)
  assert.strictEqual(second.severity, 'high')
  assert.strictEqual((await manager.getAttestationHistory('T-1')).length, 2)
})

await check('ledger', async () => {
  const ledger = new driftlock.PhaseLedger(workspace)
  await ledger.initialize()
  assert.strictEqual(await ledger.exists(), false)
  const appends = [1, 2, 3].map((n) => ledger.appendTransition(`T-${n}`, null, 'PLAN', ['plan.md'], true, {}))
  assert.strictEqual((await Promise.all(appends))[0].previous_hash, 'genesis')
  assert.deepStrictEqual({ ...(await ledger.verify()) }, { valid: true, entries_checked: 3 })
  assert.strictEqual(await ledger.getCurrentPhase('T-2'), 'PLAN')
  const file = join(workspace, 'state/process/ledger.jsonl')
  writeFileSync(file, readFileSync(file, 'utf8').replace('plan.md', 'scam.md'))
  assert.strictEqual((await ledger.verify()).valid, false)
})

await check('telemetry', async () => {
  await new driftlock.TelemetryRecorder(workspace).recordCounter('evidence_gate_passed', 2, { half: '\ud83e' })
  const [line] = readFileSync(join(workspace, 'state/telemetry/counters.jsonl'), 'utf8').split('\n')
  const { counter, value, metadata } = JSON.parse(line)
  assert.deepStrictEqual([counter, value, metadata.half], ['evidence_gate_passed', 2, '\ud83e'])
})

await check('file locks', async () => {
  const path = join(workspace, 'locks/a.lock')
  let counter = 0
  const increment = async () => {
    const seen = counter
    await new Promise((resolve) => setTimeout(resolve, 5))
    counter = seen + 1
  }
  await Promise.all(Array.from({ length: 10 }, () => driftlock.withFileLock(path, increment)))
  assert.strictEqual(counter, 10)
  assert.strictEqual(await driftlock.acquireLock(path), true)
  assert.strictEqual(JSON.parse(readFileSync(path, 'utf8')).pid, process.pid)
  assert.strictEqual(await driftlock.acquireLock(path, { timeout: 0 }), false)
  await assert.rejects(
    driftlock.withFileLock(path, () => 1, { timeout: 20 }),
    (error) => error instanceof driftlock.FileLockError && error.message === `Failed to acquire lock: ${path}`,
  )
  await driftlock.releaseLock(path)
  assert.ok(!existsSync(path) || readFileSync(path, 'utf8') === '')
})

await check('errors and log', async () => {
  assert.throws(
    () => new driftlock.PhaseLedger(42),
    (error) => error instanceof driftlock.LedgerError && error.code === 'INVALID_ARGUMENT',
  )
  // A logger keeps no process alive, so something else must, until the event is there.
  const alive = setInterval(() => {}, 1000)
  const logged = new Promise((resolve) => driftlock.setLogger(resolve))
  assert.strictEqual(await driftlock.acquireLock(''), false)
  assert.strictEqual((await logged).level, 'warning')
  driftlock.setLogger(null)
  clearInterval(alive)
})

await check('require', () => {
  assert.strictEqual(createRequire(import.meta.url)('driftlock').PhaseLedger, driftlock.PhaseLedger)
})

rmSync(workspace, { recursive: true })
console.log(`${passed} passed, ${process.exitCode ? 'some' : 0} failed`)

async function check(name, run) {
  try {
    await run()
    passed += 1
    console.log(`  ok      ${name}`)
  } catch (error) {
    process.exitCode = 1
    console.log(`  FAILED  ${name}: ${error?.stack ?? error}`)
  }
}
