import { mkdirSync, writeFileSync } from 'node:fs'
import { afterEach, describe, expect, test } from 'vitest'
import { PromptAttestationManager, setLogger, setLogLevel } from '../index.js'
import { type Ended, runScript } from './helpers/peer.js'
import { ISO_MS, makeSpec } from './helpers/shapes.js'
import { sleep, until } from './helpers/wait.js'
import { baselinesPath, type Json, makeWorkspace, processPath } from './helpers/workspace.js'

afterEach(() => {
  setLogger(null)
  setLogLevel('warning')
})

/** A workspace whose next attestation has something to warn of. */
function worrying(): string {
  const root = makeWorkspace()
  mkdirSync(processPath(root), { recursive: true })
  writeFileSync(baselinesPath(root), '{"T:SPEC":{"hash":"abc","ver')
  return root
}

const attest = (root: string): Promise<unknown> => new PromptAttestationManager(root).attest(makeSpec())

/** A warning and what else there is to say, in a process of its own. */
function inChild(env: Record<string, string | undefined>, level?: string): Promise<Ended> {
  return runScript(
    async ({ driftlock }, { root, spec, level }) => {
      if (level) driftlock.setLogLevel(level as 'info')
      const leases = new driftlock.PhaseLeaseManager(root)
      await leases.acquireLease('T', 'SPEC')
      await leases.renewLease('T', 'SPEC')
      await leases.releaseLease('T', 'SPEC')
      leases.close()
      const manager = new driftlock.PromptAttestationManager(root)
      await manager.attest(spec)
      await manager.resetBaseline('T', 'SPEC', 'abc')
      console.log('done')
    },
    { root: worrying(), spec: makeSpec(), level },
    { env: { DRIFTLOCK_LOG: undefined, ...env } },
  )
}

function linesOf({ code, stdout, stderr }: Ended): Json[] {
  expect({ code, stdout }).toEqual({ code: 0, stdout: 'done\n' })
  return stderr === ''
    ? []
    : stderr
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line) as Json)
}

describe('on stderr', () => {
  test('one JSON line for each warning, and nothing of lesser weight', async () => {
    const lines = linesOf(await inChild({}))
    expect(lines.length).toBeGreaterThan(0)
    for (const line of lines) {
      expect(line).toMatchObject({ message: expect.stringMatching(/./), timestamp: expect.stringMatching(ISO_MS) })
      expect(['warning', 'error']).toContain(line.level)
      expect(Object.keys(line).slice(0, 3)).toEqual(['level', 'message', 'timestamp'])
    }
    expect(lines.filter(({ level }) => level === 'warning').length).toBeGreaterThan(0)
  })

  test.each<[string, Record<string, string>, string | undefined, string[]]>([
    ['the environment says info', { DRIFTLOCK_LOG: 'info' }, undefined, ['info', 'warning', 'error']],
    ['the environment says warning', { DRIFTLOCK_LOG: 'warning' }, undefined, ['warning', 'error']],
    ['the environment says error', { DRIFTLOCK_LOG: 'error' }, undefined, ['error']],
    ['the environment says silent', { DRIFTLOCK_LOG: 'silent' }, undefined, []],
    ['the environment says nonsense', { DRIFTLOCK_LOG: 'shout' }, undefined, ['warning', 'error']],
    ['the environment says nothing', { DRIFTLOCK_LOG: '' }, undefined, ['warning', 'error']],
    ['setLogLevel says silent', { DRIFTLOCK_LOG: 'info' }, 'silent', []],
    ['setLogLevel says warning', { DRIFTLOCK_LOG: 'silent' }, 'warning', ['warning', 'error']],
  ])('levels: %s', async (_, env, level, allowed) => {
    const levels = linesOf(await inChild(env, level)).map((line) => line.level as string)
    for (const found of levels) expect(allowed).toContain(found)
    if (allowed.includes('warning')) expect(levels).toContain('warning')
  })
})

describe('setLogger', () => {
  test('gets the events instead of stderr', async () => {
    const ended = await runScript(
      async ({ driftlock, sleep }, { root, spec }) => {
        const events: unknown[] = []
        driftlock.setLogger((event) => events.push(event))
        await new driftlock.PromptAttestationManager(root).attest(spec)
        while (events.length === 0) await sleep(5)
        console.log(JSON.stringify(events))
      },
      { root: worrying(), spec: makeSpec() },
    )
    expect({ code: ended.code, stderr: ended.stderr }).toEqual({ code: 0, stderr: '' })
    const [event] = JSON.parse(ended.stdout) as Json[]
    expect(event).toMatchObject({
      level: 'warning',
      message: expect.stringMatching(/./),
      timestamp: expect.stringMatching(ISO_MS),
    })
  })

  test('is told of a specification that can’t be hashed', async () => {
    const events: Json[] = []
    setLogger((event) => events.push(event))
    await new PromptAttestationManager(makeWorkspace()).attest({ ...makeSpec(), taskId: 5 } as never)
    await until(() => events.some(({ level }) => level === 'warning'), 'a warning comes')
  })

  test('the level counts for it too', async () => {
    const events: Json[] = []
    setLogger((event) => events.push(event))
    setLogLevel('silent')
    await attest(worrying())
    await sleep(50)
    expect(events).toEqual([])
    setLogLevel('warning')
    await attest(worrying())
    await until(() => events.length > 0, 'a warning comes')
  })

  test('may be replaced, and taken away with null', async () => {
    const [first, second]: [Json[], Json[]] = [[], []]
    setLogger((event) => first.push(event))
    await attest(worrying())
    await until(() => first.length > 0, 'a warning comes')
    const count = first.length
    setLogger((event) => second.push(event))
    await attest(worrying())
    await until(() => second.length > 0, 'a warning comes')
    setLogger(null)
    setLogLevel('silent')
    await attest(worrying())
    await sleep(50)
    expect(first).toHaveLength(count)
  })

  test('one that throws harms nobody', async () => {
    const ended = await runScript(
      async ({ driftlock, sleep }, { root, spec }) => {
        let called = 0
        driftlock.setLogger(() => {
          called++
          throw new Error('a bad logger')
        })
        const answer = await new driftlock.PromptAttestationManager(root).attest(spec)
        while (called === 0) await sleep(5)
        await sleep(50)
        console.log(answer.hasDrift, answer.error)
      },
      { root: worrying(), spec: makeSpec() },
    )
    expect({ code: ended.code, stdout: ended.stdout }).toEqual({ code: 0, stdout: 'false undefined\n' })
  })

  test('may call the package itself', async () => {
    const root = worrying()
    const manager = new PromptAttestationManager(makeWorkspace())
    const answers: unknown[] = []
    setLogger(() => void manager.attest(makeSpec()).then((answer) => answers.push(answer)))
    await attest(root)
    await until(() => answers.length > 0, 'the logger’s own call is answered')
  })
})
