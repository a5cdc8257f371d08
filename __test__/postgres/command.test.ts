import { readdirSync, readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { PhaseLedger, PromptAttestationManager } from '../../index.js'
import { jsonOf, runCli, startCli } from '../helpers/cli.js'
import { PASSWORD } from '../helpers/postgres.js'
import { makeSpec } from '../helpers/shapes.js'
import { newUrl } from '../helpers/stores.js'
import { until } from '../helpers/wait.js'
import { makeWorkspace, openLeases } from '../helpers/workspace.js'

/** A workspace with a bit of everything on a server that only `--store` names. */
async function used(): Promise<{ root: string; store: string; address: string }> {
  const [root, store] = [makeWorkspace(), newUrl()]
  process.env.DRIFTLOCK_STORE = ''
  const leases = openLeases(root, { agentId: 'me', store })
  await leases.acquireLease('T', 'SPEC')
  const prompts = new PromptAttestationManager(root, { store })
  await prompts.attest(makeSpec({ taskId: 'T', phase: 'VERIFY' }))
  await prompts.attest(makeSpec({ taskId: 'T', phase: 'VERIFY', requirements: ['else'] }))
  await new PhaseLedger(root, { store }).appendTransition('T', null, 'SPEC', [], true)
  return { root, store, address: leases.store }
}

test('every command that looks sees the server, and makes nothing in the workspace', async () => {
  const { root, store, address } = await used()
  const before = readdirSync(root, { recursive: true })
  const answer = async (...args: string[]) => {
    const { value, code } = await jsonOf(root, ...args, '--store', store)
    expect(JSON.stringify(value)).not.toContain(PASSWORD)
    return { value, code }
  }
  const [status, list, drift, gate, history, verified, stats, baselines, doctor, exported] = await Promise.all([
    answer('status'),
    answer('leases', 'list'),
    answer('drift', '--since', '1d'),
    answer('drift', '--task', 'T', '--fail-on', 'high'),
    answer('history', 'T'),
    answer('ledger', 'verify'),
    answer('ledger', 'stats'),
    answer('baseline', 'list'),
    answer('doctor'),
    answer('exporter', '--once'),
  ])
  expect(status.value).toMatchObject({
    problems: [],
    database: { state: 'ok', store: 'postgres', server: address },
    totals: { active: 1 },
    leases: [{ taskId: 'T', agentId: 'me' }],
    drift: { state: 'ok', attestations: 2, all: { high: 1 }, last24h: { high: 1 } },
    ledger: { state: 'ok', entries: 1, last: [{ taskId: 'T', toPhase: 'SPEC' }] },
  })
  expect(list.value.leases).toMatchObject([{ taskId: 'T', phase: 'SPEC' }])
  expect(drift.value).toMatchObject({ attestations: 2, total: 1, drift: [{ taskId: 'T', severity: 'high' }] })
  expect(gate).toMatchObject({ code: 1, value: { attestations: 2, total: 1, failed: true } })
  expect(history.value.events.map(({ kind }: { kind: string }) => kind)).toEqual([
    'attestation',
    'attestation',
    'transition',
  ])
  expect(verified.value).toMatchObject({ valid: true, entries_checked: 1 })
  expect(stats.value).toMatchObject({ totalEntries: 1, uniqueTasks: 1 })
  expect(baselines.value.baselines).toMatchObject([{ taskId: 'T', phase: 'VERIFY', version: 1 }])
  expect(doctor).toMatchObject({ code: 0, value: { problems: 0 } })
  const checks = doctor.value.checks.map(({ check, result }: Record<string, string>) => [check, result])
  expect(checks).toEqual(
    ['versions', 'server', 'schema', 'clock', 'notifications', 'chain'].map((check) => [check, 'ok']),
  )
  const acquired = exported.value.find(({ name }: { name: string }) => name === 'lease_acquisitions_total')
  expect(acquired.samples[0].value).toBe(1)
  expect(readdirSync(root, { recursive: true })).toEqual(before)
})

test('what operators do is done there', async () => {
  const { root, store } = await used()
  process.env.DRIFTLOCK_STORE = store
  const released = await jsonOf(root, 'leases', 'release', 'T', 'SPEC', '--force', '--by', 'ann', '--reason', 'hangs')
  expect(released.value).toMatchObject({ released: { agent_id: 'me' } })
  expect((await jsonOf(root, 'leases', 'events')).value.events).toMatchObject([{ kind: 'forced-release', by: 'ann' }])
  const reset = await jsonOf(root, 'baseline', 'reset', '--task', 'T', '--phase', 'VERIFY', '--use-latest')
  expect(reset.value).toMatchObject({ before: { version: 1 }, after: { version: 2 } })
  expect(reset.value.after.hash).not.toBe(reset.value.before.hash)
})

test('a schema that nobody has used is not made', async () => {
  const [root, store] = [makeWorkspace(), newUrl()]
  const { value, code } = await jsonOf(root, 'status', '--store', store)
  expect({ value, code }).toMatchObject({ value: { error: { code: 'NO_STATE' } }, code: 3 })
  expect(value.error.message).toContain('postgres://127.0.0.1')
  expect((await jsonOf(root, 'exporter', '--once', '--store', store)).code).toBe(0)
  expect((await jsonOf(root, 'status', '--store', store)).code).toBe(3)
})

test('credentials are shown nowhere', async () => {
  const { root, store } = await used()
  const wrong = store.replace(PASSWORD, 'wr0ng')
  for (const args of [
    ['status', '--store', wrong],
    ['status', wrong],
    ['status', '--store', 'postgres://ada:wr0ng#/?@h:x/d'],
    ['status', '--help', '--store', wrong],
    ['exporter', '--once', '--store', wrong],
  ]) {
    const { stdout, stderr } = await runCli([...args, '--workspace', root], { env: { DRIFTLOCK_STORE: wrong } })
    expect(stdout + stderr).not.toBe('')
    expect(stdout + stderr).not.toContain('wr0ng')
  }
})

test.runIf(process.platform === 'linux')('others do not see them in the list of processes', async () => {
  const { root, store } = await used()
  const running = startCli(['status', '--watch', '--workspace', root, '--store', store])
  await until(() => running.output().includes('LEASES'), 'it runs')
  expect(readFileSync(`/proc/${running.child.pid}/cmdline`, 'utf8')).not.toContain(PASSWORD)
})
