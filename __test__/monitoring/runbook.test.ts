import { spawnSync } from 'node:child_process'
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { expect, test } from 'vitest'
import * as driftlock from '../../index.js'
import { Load } from '../../monitoring/rehearsal/load.mjs'
import { makeWorkspace } from '../helpers/workspace.js'
import { notRun, read, repository } from './configuration.js'

const runbook = read('RUNBOOK.md')

const missing = ['jq', 'sqlite3'].find((program) => spawnSync(program, ['--version']).error)

/** What the runbook says to run, in its order. */
const blocks = [...runbook.matchAll(/^( *)```sh\n([\s\S]*?)^ *```$/gm)].map(([, indent, block]) =>
  block!.replaceAll(new RegExp(`^${indent}`, 'gm'), ''),
)

/** A workspace with everything in it that the runbook's commands ask for. */
async function prepareWorkspace(): Promise<string> {
  const workspace = makeWorkspace()
  const load = new Load(driftlock, workspace)
  await load.initialize()
  await load.prompt('VERIFY', true, 'TASK-1')
  await load.transition('VERIFY', 'TASK-1')
  await load.gates(1, 1)
  await load.validations(1, 1)
  await load.skip()
  load.close()
  const leases = new driftlock.PhaseLeaseManager(workspace, { agentId: 'agent-7' })
  expect(await leases.acquireLease('TASK-1', 'IMPLEMENT')).toMatchObject({ acquired: true })
  leases.close()
  return workspace
}

/** Where `npx driftlock` is the command of this repository. */
function makePath(): string {
  const folder = join(makeWorkspace(), 'bin')
  mkdirSync(folder)
  const npx = join(folder, 'npx')
  const command = join(repository, 'bin/driftlock.js')
  writeFileSync(
    npx,
    `#!/bin/sh\n[ "$1" = driftlock ] || exit 127\nshift\nexec '${process.execPath}' '${command}' "$@"\n`,
  )
  chmodSync(npx, 0o755)
  return `${folder}${delimiter}${process.env.PATH}`
}

test('links within the runbook lead somewhere', () => {
  const anchors = [...runbook.matchAll(/^#+ (.+)$/gm)].map(([, heading]) => heading!.toLowerCase().replaceAll(' ', '-'))
  const links = [...runbook.matchAll(/\]\(#([^)]+)\)/g)].map(([, link]) => link!)
  expect(links.length).toBeGreaterThan(10)
  expect(links.filter((link) => !anchors.includes(link))).toEqual([])
})

test.skipIf(notRun(missing && `${missing} is not installed (apt-get install jq sqlite3)`))(
  'every command of the runbook works',
  { timeout: 60_000 },
  async () => {
    const workspace = await prepareWorkspace()
    const env = { ...process.env, PATH: makePath() }
    expect(blocks.length).toBeGreaterThan(10)
    for (const block of blocks) {
      // All lines, each of which has to work, as if typed one after the other.
      const { status, stdout, stderr } = spawnSync('bash', ['-euo', 'pipefail', '-c', block], {
        cwd: workspace,
        env,
        encoding: 'utf8',
      })
      expect(status, `${block}\n${stdout}\n${stderr}`).toBe(0)
      if (!block.startsWith('cp ')) expect(stdout, block).not.toBe('')
    }
  },
)
