import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { PhaseLeaseManager, PhaseLedger, PromptAttestationManager } from '../../index.js'
import { promptOf, runCli, workspaceWithJournals } from '../helpers/cli.js'
import { PASSWORD } from '../helpers/postgres.js'
import { newUrl } from '../helpers/stores.js'
import { makeWorkspace } from '../helpers/workspace.js'

const journalsOf = (root: string): Record<string, string> => {
  const folder = join(root, 'state/process')
  const names = readdirSync(folder).filter((name) => /\.jsonl?$/.test(name))
  return Object.fromEntries(names.sort().map((name) => [name, readFileSync(join(folder, name), 'utf8')]))
}

/** A workspace in files, with a lease, a reset and journals, whatever the store of the other tests is. */
async function makeSource(): Promise<string> {
  process.env.DRIFTLOCK_STORE = 'sqlite'
  const root = await workspaceWithJournals()
  await new PromptAttestationManager(root).resetBaseline('TASK-1', 'SPEC', 'f'.repeat(64), { updatedBy: 'ann' })
  const leases = new PhaseLeaseManager(root, { agentId: 'agent-7' })
  expect(await leases.acquireLease('TASK-1', 'IMPLEMENT')).toMatchObject({ acquired: true })
  leases.close()
  return root
}

const migrate = (from: string, to: string, ...more: string[]) =>
  runCli(['migrate', '--from', from, '--to', to, ...more])

describe('migrate', () => {
  test('goes there and back, byte for byte, and agents go on where they were', async () => {
    const [source, server, back] = [await makeSource(), newUrl(), makeWorkspace()]
    const dry = await migrate(source, server, '--dry-run', '--json')
    expect(JSON.parse(dry.stdout)).toMatchObject({
      dryRun: true,
      verified: false,
      entries: { total: 2, copied: 2 },
      attestations: { total: 6, copied: 6 },
      resets: { total: 1, copied: 1 },
      baselines: { total: 3, copied: 3 },
      leases: { total: 1, copied: 1 },
      leftOut: 0,
    })
    expect((await migrate(source, server)).stdout).toContain('verified')
    // Once more copies nothing.
    const again = await migrate(source, server, '--json')
    expect(JSON.parse(again.stdout)).toMatchObject({ verified: true, entries: { total: 2, copied: 0 } })

    const root = makeWorkspace()
    const leases = new PhaseLeaseManager(root, { store: server, agentId: 'agent-7' })
    expect(await leases.getLeaseAsync('TASK-1', 'IMPLEMENT')).toMatchObject({ agent_id: 'agent-7' })
    expect(await leases.renewLease('TASK-1', 'IMPLEMENT')).toMatchObject({ renewed: true })
    leases.close()
    const prompts = new PromptAttestationManager(root, { store: server })
    expect(await prompts.attest(promptOf('TASK-1', 'VERIFY', 'second'))).toMatchObject({ severity: 'high' })
    const ledger = new PhaseLedger(root, { store: server })
    await ledger.appendTransition('TASK-1', 'IMPLEMENT', 'VERIFY', [], true)
    expect(await ledger.verify()).toMatchObject({ valid: true, entries_checked: 3 })

    expect((await migrate(server, back)).code).toBe(0)
    const [before, after] = [journalsOf(source), journalsOf(back)]
    expect(Object.keys(after)).toEqual(Object.keys(before))
    for (const name of ['ledger.jsonl', 'prompt_attestations.jsonl', 'prompt_baseline_updates.jsonl']) {
      expect(after[name]?.startsWith(before[name] as string)).toBe(true)
    }
    expect(JSON.parse(after['prompt_baselines.json'] as string)).toEqual(
      JSON.parse(before['prompt_baselines.json'] as string),
    )
  })

  test('leaves a target alone that somebody uses, and shows no password', async () => {
    const [source, server] = [await makeSource(), newUrl()]
    await new PhaseLedger(makeWorkspace(), { store: server }).appendTransition('OTHER', null, 'SPEC', [], true)
    const { code, stdout, stderr } = await migrate(source, server, '--json')
    expect(code).toBe(3)
    expect(JSON.parse(stdout)).toMatchObject({ error: { code: 'NOT_MIGRATED' } })
    expect(stdout + stderr).not.toContain(PASSWORD)
    const wrong = await migrate(source, server.replace(PASSWORD, 'wr0ng'), '--json')
    expect(JSON.parse(wrong.stdout)).toMatchObject({ error: { code: 'SERVER' } })
    expect(wrong.stdout + wrong.stderr).not.toContain('wr0ng')
  })
})
