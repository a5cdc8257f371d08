import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, realpathSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { PhaseLeaseManager } from '../index.js'
import {
  cliEntry,
  driftRecord,
  HOSTILE,
  HOSTILE_SHOWN,
  jsonOf,
  runCli,
  UNSAFE,
  workspaceWithJournals,
  writeAttestations,
} from './helpers/cli.js'
import { runScript } from './helpers/peer.js'
import { makeWorkspace, openDatabase, openLeases, snapshot } from './helpers/workspace.js'

const isLinux = process.platform === 'linux'

const READING = [
  ['status'],
  ['leases', 'list'],
  ['leases', 'events'],
  ['drift'],
  ['history', 'TASK-1'],
  ['ledger', 'verify'],
  ['ledger', 'stats'],
  ['baseline', 'list'],
  ['doctor'],
]
const COMMANDS = ['status', 'leases', 'drift', 'history', 'ledger', 'baseline', 'doctor', 'bench', 'completion']

/** Two at a time, since each is a process. */
async function each<T>(list: T[], run: (one: T) => Promise<void>): Promise<void> {
  const left = [...list]
  const next = async (): Promise<void> => {
    for (let one = left.shift(); one !== undefined; one = left.shift()) await run(one)
  }
  await Promise.all([next(), next()])
}

describe('help', () => {
  test('names all commands and the exit codes', async () => {
    const { stdout, stderr, code } = await runCli(['--help'])
    for (const name of COMMANDS) expect(stdout).toMatch(new RegExp(`^  driftlock ${name}\\b`, 'm'))
    expect(stdout).toMatch(/Exit codes:\n {2}0 .*\n {2}1 .*\n {2}2 .*\n {2}3 /)
    expect({ stderr, code }).toEqual({ stderr: '', code: 0 })
  })

  test('each command has its own', async () => {
    const names = [...READING, ['leases', 'release'], ['baseline', 'reset'], ['bench'], ['leases'], ['ledger']]
    await each(names, async (args) => {
      const command = args.filter((name) => name !== 'TASK-1')
      const { stdout, code } = await runCli([...command, '--help'])
      expect(code, command.join(' ')).toBe(0)
      expect(stdout.startsWith(`driftlock ${command.join(' ')}`), stdout).toBe(true)
      expect(stdout).toContain('--workspace')
      expect(stdout, command.join(' ')).toContain('Exit codes:')
    })
  })

  test('is in English whatever the locale', async () => {
    const { stdout } = await runCli(['--help'], { env: { LC_ALL: 'de_DE.UTF-8', LANG: 'de_DE.UTF-8' } })
    expect(stdout).toContain('Show help')
  })

  test('the version is the package’s', async () => {
    const { version } = require('../package.json') as { version: string }
    expect((await runCli(['--version'])).stdout).toBe(`${version}\n`)
  })

  test('the completion script is for this command, and completes', async () => {
    expect((await runCli(['completion'])).stdout).toContain('driftlock completion')
    const { stdout } = await runCli(['--get-yargs-completions', 'driftlock', 'baseline', ''])
    expect(stdout.split('\n')).toEqual(expect.arrayContaining(['list', 'reset']))
  })
})

describe('wrong usage', () => {
  test.each([
    [[], /Which command/],
    [['nonsense'], /Unknown command: nonsense/],
    [['status', '-w', ''], /--workspace is empty/],
    [['status', '--nonsense'], /Unknown argument: nonsense/],
    [['status', '--watch', 'x'], /--watch takes seconds from 0.1 to 86400, got x/],
    [['status', '--watch', '1', '--json'], /--json gives one document/],
    [['status', '--watch', '--serve'], /one or the other/],
    [['status', '--serve', '--listen', '9465'], /--listen takes HOST:PORT/],
    [['status', '--serve', '--listen', 'localhost:70000'], /--listen takes HOST:PORT/],
    [['leases'], /list, release or events/],
    [['leases', 'release', 'T'], /need at least 2/],
    [['leases', 'release', 'T', 'SPEC', '--by', 'ann', '--reason', 'why'], /needs --force, --by WHO and --reason WHY/],
    [['leases', 'release', 'T', 'SPEC', '--force', '--reason', 'why'], /needs --force, --by WHO and --reason WHY/],
    [['leases', 'release', 'T', 'SPEC', '--force', '--by', 'ann'], /needs --force, --by WHO and --reason WHY/],
    [['leases', 'events', '--limit', '-1'], /--limit takes a whole number/],
    [['drift', '--since', 'yesterday'], /--since takes a duration/],
    [['drift', '--since'], /Not enough arguments following: since/],
    [['drift', '--fail-on', 'terrible'], /Choices: "low", "medium", "high"/],
    [['drift', '--limit', 'x'], /--limit takes a whole number/],
    [['history'], /need at least 1/],
    [['ledger'], /verify or stats/],
    [['baseline', 'reset', '--task', 'T', '--phase', 'SPEC'], /One of --hash and --use-latest/],
    [['baseline', 'reset', '--task', 'T', '--use-latest'], /Missing required argument: phase/],
    [['baseline', 'reset', '-t', 'T', '-p', 'SPEC', '--hash', 'ab'], /64 lower-case hexadecimal digits, got ab/],
    [['baseline', 'reset', '-t', 'T', '-p', 'SPEC', '--use-latest', '--hash', 'a'.repeat(64)], /and not both/],
    [['baseline', 'reset', '-t', 'T', '-p', 'A:B', '--use-latest'], /must not contain a colon/],
    [['bench', '--iterations', '0'], /--iterations takes a whole number/],
  ])('%j', async (args, message) => {
    const root = makeWorkspace()
    const { stdout, stderr, code } = await runCli(args.includes('-w') ? args : [...args, '--workspace', root])
    expect(stderr).toMatch(message)
    expect(stderr).toContain('driftlock --help')
    expect(code).toBe(2)
    if (!args.includes('--json')) expect(stdout).toBe('')
    expect(snapshot(root)).toEqual({})
  })

  test('is one JSON document with --json', async () => {
    const { stdout, code } = await runCli(['nonsense', '--json'])
    expect(code).toBe(2)
    expect(JSON.parse(stdout)).toEqual({ error: { code: 'USAGE', message: 'Unknown command: nonsense' } })
  })
})

describe('the workspace', () => {
  test('in which nothing is stays as it is', async () => {
    const root = makeWorkspace()
    await each(READING, async (args) => {
      const { stdout, stderr, code } = await runCli([...args, '--workspace', root])
      expect({ stdout, code }, args.join(' ')).toEqual({ stdout: '', code: 3 })
      expect(stderr).toContain(`No agent has used the workspace ${realpathSync(root)} yet`)
    })
    expect(snapshot(root)).toEqual({})
  })

  test('with journals only gets no database by reading', async () => {
    const root = await workspaceWithJournals()
    const before = snapshot(root)
    await each(READING, async (args) => {
      const { code, stderr } = await runCli([...args, '--workspace', root])
      expect({ code, stderr }, args.join(' ')).toEqual({ code: 0, stderr: '' })
    })
    expect(snapshot(root)).toEqual(before)
  })

  test('with a database gets no other files by reading', async () => {
    const root = makeWorkspace()
    const manager = new PhaseLeaseManager(root)
    await manager.acquireLease('TASK-1', 'SPEC')
    manager.close()
    const before = Object.keys(snapshot(root)).sort()
    await each(READING, async (args) => {
      const { code, stderr } = await runCli([...args, '--workspace', root])
      expect({ code, stderr }, args.join(' ')).toEqual({ code: 0, stderr: '' })
    })
    expect(Object.keys(snapshot(root)).sort()).toEqual(before)
  })

  test('that does not exist is named', async () => {
    const { value, code } = await jsonOf('/no/such/folder', 'status')
    expect(code).toBe(3)
    expect(value.error.code).toBe('NO_WORKSPACE')
    expect(value.error.message).toContain('/no/such/folder')
  })

  test('is the folder itself if it has state, also below a repository’s root', async () => {
    const root = makeWorkspace()
    mkdirSync(join(root, '.git'))
    const inside = join(root, 'inside')
    mkdirSync(inside)
    openLeases(inside)
    expect((await jsonOf(inside, 'status')).value.workspace).toBe(realpathSync(inside))
  })

  test('is the repository’s root from a folder without state', async () => {
    const root = makeWorkspace()
    git(root, 'init', '--quiet')
    mkdirSync(join(root, 'src'))
    openLeases(root)
    expect((await jsonOf(join(root, 'src'), 'status')).value.workspace).toBe(realpathSync(root))
  })

  test('is the main worktree from a linked one, and the current folder by default', async () => {
    const { root, linked } = linkedWorktree()
    openLeases(root)
    const { stdout } = await runCli(['status', '--json'], { cwd: linked })
    expect(JSON.parse(stdout).workspace).toBe(realpathSync(root))
  })

  test('a linked worktree with state of its own is the doctor’s problem', async () => {
    const { root, linked } = linkedWorktree()
    openLeases(root)
    expect((await jsonOf(linked, 'doctor')).code).toBe(0)
    mkdirSync(join(linked, 'state', 'process'), { recursive: true })
    writeFileSync(join(linked, 'state', 'process', 'ledger.jsonl'), '')
    const { value, code } = await jsonOf(linked, 'doctor')
    expect(code).toBe(1)
    expect(value.workspace).toBe(realpathSync(root))
    expect(value.checks).toContainEqual(
      expect.objectContaining({
        check: 'workspace',
        result: 'problem',
        advice: expect.stringContaining('resolveWorkspace'),
      }),
    )
  })
})

describe('failures', () => {
  test('of the store are told by code, without a stack', async () => {
    const root = makeWorkspace()
    openLeases(root).close()
    const db = openDatabase(root)
    db.exec('ALTER TABLE phase_leases RENAME COLUMN agent_id TO somebody')
    db.close()
    const { stdout, stderr, code } = await runCli(['leases', 'list', '--json', '--workspace', root])
    expect(code).toBe(3)
    expect(JSON.parse(stdout).error).toEqual({ code: 'DATABASE', message: expect.stringContaining('agent_id') })
    expect(stderr).not.toMatch(/^ {4}at /m)
  })

  test.runIf(isLinux)('a reader that goes away is none', () => {
    const root = makeWorkspace()
    writeAttestations(
      root,
      Array.from({ length: 2000 }, () => driftRecord('low', 1000)),
    )
    const drift = `"${process.execPath}" "${cliEntry}" drift --limit 2000 --json -w "${root}"`
    const line = `${drift} | head -c 1; echo " \${PIPESTATUS[0]}"`
    expect(execFileSync('bash', ['-c', line], { encoding: 'utf8' })).toBe('{ 0\n')
  })
})

describe('on a terminal', () => {
  const inTerminal = (root: string, env: Record<string, string>): string =>
    execFileSync('script', ['-qec', `"${process.execPath}" "${cliEntry}" status -w "${root}"`, '/dev/null'], {
      encoding: 'utf8',
      env: { PATH: process.env.PATH, TERM: 'xterm-256color', ...env },
    })

  test.runIf(isLinux)('there are colours, unless NO_COLOR is set; the text is the same', async () => {
    const root = await workspaceWithJournals()
    const [coloured, plain] = [inTerminal(root, {}), inTerminal(root, { NO_COLOR: '1' })].map((text) =>
      text.replaceAll(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, ''),
    )
    // biome-ignore lint/suspicious/noControlCharactersInRegex: colours are what is looked for
    const colours = /\x1b\[\d+m/g
    expect(coloured).toMatch(colours)
    expect(plain).not.toContain('\u001b')
    expect(coloured?.replaceAll(colours, '')).toBe(plain)
  })

  test('elsewhere there are none', async () => {
    const { stdout } = await runCli(['status', '-w', await workspaceWithJournals()], {
      env: { TERM: 'xterm-256color' },
    })
    expect(stdout).not.toContain('\u001b')
  })
})

describe('names of any characters', () => {
  test('do nothing to the terminal', async () => {
    const root = await workspaceWithJournals(HOSTILE)
    const manager = openLeases(root, { agentId: HOSTILE })
    await manager.acquireLease(HOSTILE, HOSTILE)
    await manager.acquireLease('T', HOSTILE)
    await manager.forceRelease('T', HOSTILE, { by: HOSTILE, reason: HOSTILE })
    const reading = READING.map((args) => args.map((name) => (name === 'TASK-1' ? HOSTILE : name)))
    await each(reading, async (args) => {
      for (const format of [[], ['--json']]) {
        const { stdout, stderr, code } = await runCli([...args, ...format, '-w', root])
        expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
        expect(stdout, args.join(' ')).not.toMatch(UNSAFE)
      }
    })
    expect((await runCli(['leases', 'list', '-w', root])).stdout).toContain(HOSTILE_SHOWN)
  })

  test('nor do they in messages', async () => {
    const { stderr, stdout } = await runCli(['status', '--json', '-w', `/no/${HOSTILE.replaceAll('/', '')}`])
    expect(stderr).toContain('\\u{1b}')
    expect(stderr).not.toMatch(UNSAFE)
    expect(stdout).not.toMatch(UNSAFE)
  })
})

test('the library loads nothing of the command', async () => {
  const { stdout } = await runScript(({ require }) => {
    console.log(Object.keys(require.cache).filter((path) => /yargs|cli-table3|[\\/](cli|bin)[\\/]/.test(path)).length)
  }, undefined)
  expect(stdout).toBe('0\n')
  expect(existsSync(cliEntry)).toBe(true)
})

function git(cwd: string, ...args: string[]): void {
  const identity = ['-c', 'user.name=t', '-c', 'user.email=t@example.org']
  execFileSync('git', [...identity, ...args], { cwd, stdio: 'ignore' })
}

function linkedWorktree(): { root: string; linked: string } {
  const root = makeWorkspace()
  const linked = join(makeWorkspace(), 'linked')
  git(root, 'init', '--quiet')
  git(root, 'commit', '--quiet', '--allow-empty', '-m', 'first')
  git(root, 'worktree', 'add', '--quiet', '--detach', linked)
  return { root, linked }
}
