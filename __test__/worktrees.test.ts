import { spawnSync } from 'node:child_process'
import {
  chmodSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join, relative } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import {
  DriftlockError,
  type LogEvent,
  PhaseLedger,
  PromptAttestationManager,
  resolveWorkspace,
  setLogger,
} from '../index.js'
import { Peer } from './helpers/peer.js'
import { until } from './helpers/wait.js'
import { makeWorkspace, openLeases, snapshot } from './helpers/workspace.js'

afterEach(() => setLogger(null))

/** Neither the user's settings nor a repository that the tests happen to run for. */
const environment = {
  ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('GIT_'))),
  GIT_CONFIG_GLOBAL: '/dev/null',
  GIT_CONFIG_NOSYSTEM: '1',
}

function git(folder: string, ...parameters: string[]): void {
  const settings = ['user.name=a', 'user.email=a@example.org', 'protocol.file.allow=always', 'init.defaultBranch=main']
  const { status, stderr } = spawnSync('git', [...settings.flatMap((setting) => ['-c', setting]), ...parameters], {
    cwd: folder,
    env: environment,
    encoding: 'utf8',
  })
  if (status !== 0) throw new Error(`git ${parameters.join(' ')}: ${stderr}`)
}

/** A folder without symbolic links in its name. */
const makeFolder = (): string => realpathSync(makeWorkspace())

function makeRepository(root: string, ...options: string[]): string {
  mkdirSync(root)
  git(root, 'init', ...options)
  git(root, 'commit', '--allow-empty', '-m', 'first')
  return root
}

/** A repository's main worktree and a linked one. */
function makeWorktrees(): { at: string; main: string; linked: string } {
  const at = makeFolder()
  const main = makeRepository(join(at, 'main'))
  const linked = join(at, 'linked')
  git(main, 'worktree', 'add', linked)
  return { at, main, linked }
}

function errorOf(call: () => unknown): DriftlockError {
  try {
    call()
  } catch (error) {
    expect(error).toBeInstanceOf(DriftlockError)
    return error as DriftlockError
  }
  throw new Error('it did not throw')
}

describe('resolveWorkspace', () => {
  test('finds the main worktree from every folder of every worktree', () => {
    const { at, main, linked } = makeWorktrees()
    const inside = join(main, '.worktrees', 'inside')
    git(main, 'worktree', 'add', '--detach', inside)
    const deep = join(linked, 'src', 'deep')
    mkdirSync(deep, { recursive: true })
    writeFileSync(join(deep, 'file.txt'), '')
    symlinkSync(linked, join(at, 'link'))
    const before = snapshot(at)
    const paths = [main, join(main, '.git', 'refs'), linked, deep, join(deep, 'file.txt'), inside, join(at, 'link')]
    for (const path of paths) {
      expect(resolveWorkspace(path), path).toBe(main)
      expect(resolveWorkspace(relative(process.cwd(), path)), path).toBe(main)
    }
    expect(snapshot(at)).toEqual(before)
  })

  test('follows worktrees that were moved', () => {
    const { at, main, linked } = makeWorktrees()
    git(main, 'worktree', 'move', linked, join(at, 'moved'))
    expect(resolveWorkspace(join(at, 'moved'))).toBe(main)
    renameSync(main, join(at, 'elsewhere'))
    git(join(at, 'elsewhere'), 'worktree', 'repair', join(at, 'moved'))
    expect(resolveWorkspace(join(at, 'moved'))).toBe(join(at, 'elsewhere'))
  })

  test('finds a bare repository from its worktrees and from itself', () => {
    const { at, main } = makeWorktrees()
    const bare = join(at, 'bare.git')
    git(at, 'clone', '--bare', main, bare)
    git(bare, 'worktree', 'add', '--detach', join(at, 'one'))
    git(bare, 'worktree', 'add', '--detach', join(at, 'two'))
    for (const path of [join(at, 'one'), join(at, 'two'), bare, join(bare, 'hooks')]) {
      expect(resolveWorkspace(path), path).toBe(bare)
    }
  })

  test('finds the folder around a bare repository that a file there names', () => {
    const { at, main } = makeWorktrees()
    const around = join(at, 'around')
    git(at, 'clone', '--bare', main, join(around, '.bare'))
    writeFileSync(join(around, '.git'), 'gitdir: ./.bare\n')
    git(around, 'worktree', 'add', '--detach', 'feature')
    for (const path of [around, join(around, 'feature')]) expect(resolveWorkspace(path), path).toBe(around)
  })

  test('takes a submodule for a repository of its own', () => {
    const { at, main, linked } = makeWorktrees()
    const source = makeRepository(join(at, 'source'))
    git(main, 'submodule', 'add', source, 'libs/sub')
    git(linked, 'submodule', 'add', source, 'libs/sub')
    const [sub, other] = [join(main, 'libs', 'sub'), join(linked, 'libs', 'sub')]
    git(sub, 'worktree', 'add', '--detach', join(at, 'of-sub'))
    expect(resolveWorkspace(sub)).toBe(sub)
    expect(resolveWorkspace(join(at, 'of-sub'))).toBe(sub)
    expect(resolveWorkspace(other)).toBe(other)
    // Git then keeps the submodule's settings for each of its worktrees apart.
    git(sub, 'sparse-checkout', 'set', 'src')
    expect(readFileSync(join(main, '.git', 'modules', 'libs', 'sub', 'config.worktree'), 'utf8')).toContain(
      'worktree =',
    )
    expect(resolveWorkspace(sub)).toBe(sub)
    expect(resolveWorkspace(join(at, 'of-sub'))).toBe(sub)
  })

  test('has one answer for all where the git directory is elsewhere', () => {
    const at = makeFolder()
    const [main, linked, directory] = [join(at, 'main'), join(at, 'linked'), join(at, 'git-directory')]
    makeRepository(main, '--separate-git-dir', directory)
    git(main, 'worktree', 'add', linked)
    expect([main, linked, directory].map(resolveWorkspace)).toEqual([directory, directory, directory])
  })

  test('returns a folder outside of all repositories, without links', () => {
    const at = makeFolder()
    mkdirSync(join(at, 'plain'))
    symlinkSync(join(at, 'plain'), join(at, 'link'))
    for (const name of ['plain', 'link', 'plain/', 'link/../plain']) {
      expect(resolveWorkspace(`${at}/${name}`), name).toBe(join(at, 'plain'))
    }
  })

  test('says that a path does not exist', () => {
    const path = join(makeFolder(), 'nowhere')
    const { code, message } = errorOf(() => resolveWorkspace(path))
    expect(code).toBe('IO')
    expect(message).toMatch(/^cannot find .*nowhere: .*; check that/)
  })

  test('says that the repository of a worktree is gone', () => {
    const { main, linked } = makeWorktrees()
    rmSync(main, { recursive: true })
    const { code, message } = errorOf(() => resolveWorkspace(linked))
    expect(code).toBe('IO')
    expect(message).toContain(`${join(linked, '.git')} leads to no git repository`)
    expect(message).toContain(`${join(main, '.git', 'worktrees', 'linked')} is not there; run git worktree repair`)
  })

  test.each([
    ['empty', '', 'does not say gitdir:'],
    ['nonsense', '\0\0', 'does not say gitdir:'],
    ['no text', Buffer.from('gitdir: \xff', 'latin1'), 'is not valid UTF-8'],
    ['leads to a folder of another kind', 'gitdir: .', 'is not one'],
  ])('says what is wrong with a .git file: %s', (_, content, cause) => {
    const at = makeFolder()
    writeFileSync(join(at, '.git'), content)
    const { code, message } = errorOf(() => resolveWorkspace(at))
    expect(code).toBe('IO')
    expect(message).toContain(join(at, '.git'))
    expect(message).toContain(cause)
  })

  test('says that a .git file may not be read', async () => {
    const at = makeFolder()
    chmodSync(at, 0o755)
    writeFileSync(join(at, '.git'), 'gitdir: x', { mode: 0 })
    const peer = await Peer.start()
    const error = await peer.run(({ driftlock }, at: string) => {
      // Root may read everything.
      if (process.getuid?.() === 0) process.seteuid?.(65_534)
      try {
        return driftlock.resolveWorkspace(at)
      } catch (error) {
        return { code: (error as { code: string }).code, message: (error as Error).message }
      }
    }, at)
    expect(error).toMatchObject({ code: 'IO', message: expect.stringMatching(/\.git: /) })
  })
})

describe('workspaces in worktrees', () => {
  test('agents in different worktrees exclude each other at the root that both resolve', async () => {
    const { main, linked } = makeWorktrees()
    const here = openLeases(resolveWorkspace(linked), { agentId: 'here' })
    const there = openLeases(main, { agentId: 'there' })
    expect((await here.acquireLease('T', 'SPEC')).acquired).toBe(true)
    expect(await there.acquireLease('T', 'SPEC')).toMatchObject({ acquired: false, holder: 'here' })
    await here.releaseLease('T', 'SPEC')
    expect((await there.acquireLease('T', 'SPEC')).acquired).toBe(true)
    expect((await here.acquireLease('T', 'SPEC')).holder).toBe('there')
    expect(readdirSync(linked)).toEqual(['.git'])
  })

  test('a workspace in a linked one is warned of once', async () => {
    const { main, linked } = makeWorktrees()
    const events: LogEvent[] = []
    setLogger((event) => events.push(event))
    for (const root of [resolveWorkspace(linked), main, join(main, 'deeper'), makeWorkspace()]) openLeases(root)
    const roots = [linked, join(linked, 'not', 'there', 'yet')]
    for (const root of roots) {
      await new PromptAttestationManager(root).initialize()
      await new PhaseLedger(root).initialize()
      for (let time = 0; time < 3; time++) openLeases(root)
    }
    // Events arrive in their order.
    await until(() => events.length >= roots.length, 'there are warnings')
    expect(events.map(({ workspace }) => workspace)).toEqual(roots)
    for (const event of events) {
      expect(event).toMatchObject({ level: 'warning', code: 'WORKTREE', shared_root: main })
      expect(event.not_promised).toContain('the other worktrees')
      expect(event.advice).toContain('resolveWorkspace')
    }
  })

  test('nothing is said where that can not be told', async () => {
    const { main, linked } = makeWorktrees()
    rmSync(main, { recursive: true })
    const events: LogEvent[] = []
    setLogger((event) => events.push(event))
    expect((await openLeases(linked).acquireLease('T', 'SPEC')).acquired).toBe(true)
    // Another event, to know that none came before it.
    const last = makeWorktrees()
    openLeases(last.linked)
    await until(() => events.length > 0, 'there is a warning')
    expect(events.map(({ workspace }) => workspace)).toEqual([last.linked])
  })
})
