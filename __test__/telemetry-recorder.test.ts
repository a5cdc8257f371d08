import { appendFileSync, existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { TelemetryError, TelemetryRecorder } from '../index.js'
import { counterLine, countersPath, makeFolderOf, telemetryPath } from './helpers/exporter.js'
import { Peer } from './helpers/peer.js'
import { expectRefused, expectRejected, ISO_MS } from './helpers/shapes.js'
import { sleep } from './helpers/wait.js'
import { makeWorkspace, readLines } from './helpers/workspace.js'

describe('a line', () => {
  test('has timestamp, counter, value and metadata, in that order; folders are made', async () => {
    const root = makeWorkspace()
    const recorder = new TelemetryRecorder(root)
    expect(existsSync(telemetryPath(root))).toBe(false)
    expect(await recorder.recordCounter('evidence_gate_passed')).toBeUndefined()
    await recorder.recordCounter('x', 2.5, { taskId: 'T', list: ['a|b', 'c,d'], deep: { n: null, skip: undefined } })
    const [first, second] = readLines(countersPath(root))
    expect(first.timestamp).toMatch(ISO_MS)
    expect({ ...first, timestamp: '' }).toEqual({
      timestamp: '',
      counter: 'evidence_gate_passed',
      value: 1,
      metadata: {},
    })
    expect(Object.keys(second)).toEqual(['timestamp', 'counter', 'value', 'metadata'])
    expect(second.metadata).toEqual({ taskId: 'T', list: ['a|b', 'c,d'], deep: { n: null } })
  })

  test('holds strings and numbers exactly as JSON.stringify writes them', async () => {
    const root = makeWorkspace()
    const recorder = new TelemetryRecorder(root)
    const name = 'half \ud83d "quoted"\nnext'
    const metadata = { cut: '\ud83d', pair: '😀', separator: '\u2028', at: new Date(0), '\udc00': 1e21 }
    await recorder.recordCounter(name, 1e21, metadata)
    await recorder.recordCounter(name, 1e-7, metadata)
    const text = readFileSync(countersPath(root), 'utf8')
    for (const [i, value] of [1e21, 1e-7].entries()) {
      const line = text.split('\n')[i] ?? ''
      const { timestamp } = JSON.parse(line) as { timestamp: string }
      expect(line).toBe(JSON.stringify({ timestamp, counter: name, value, metadata }))
    }
  })

  test('calls that are not awaited keep their order', async () => {
    const root = makeWorkspace()
    const recorder = new TelemetryRecorder(root)
    await Promise.all(Array.from({ length: 5000 }, (_, i) => recorder.recordCounter('n', i)))
    expect(readLines(countersPath(root)).map(({ value }) => value)).toEqual(Array.from({ length: 5000 }, (_, i) => i))
  })
})

describe('bad arguments touch nothing', () => {
  // biome-ignore lint/suspicious/noExplicitAny: what callers without types may pass
  const any = (value: unknown): any => value

  test('of the constructor', () => {
    for (const root of [undefined, null, '', 7, 'a\0b']) {
      expectRefused(() => new TelemetryRecorder(any(root)), 'workspaceRoot', TelemetryError)
    }
  })

  test('of recordCounter', async () => {
    const root = makeWorkspace()
    const recorder = new TelemetryRecorder(root)
    for (const name of [undefined, null, '', 7, {}]) {
      await expectRejected(() => recorder.recordCounter(any(name)), 'name', TelemetryError)
    }
    for (const value of [null, '1', Number.NaN, Number.POSITIVE_INFINITY, -1, 1n, {}]) {
      await expectRejected(() => recorder.recordCounter('n', any(value)), 'value', TelemetryError)
    }
    const circular: Record<string, unknown> = {}
    circular.self = circular
    const throws = {
      get bad() {
        throw new Error('no')
      },
    }
    for (const metadata of [null, 'text', 7, [], () => 1, new Date(), circular, { big: 1n }, throws]) {
      await expectRejected(() => recorder.recordCounter('n', 1, any(metadata)), 'metadata', TelemetryError)
    }
    expect(existsSync(telemetryPath(root))).toBe(false)
    // What a getter or toJSON threw is not thrown later.
    await recorder.recordCounter('n', any(undefined), any(undefined))
    expect(readLines(countersPath(root))).toHaveLength(1)
  })

  test('what cannot be written rejects with the cause and the file', async () => {
    const root = makeWorkspace()
    makeFolderOf(telemetryPath(root))
    writeFileSync(telemetryPath(root), 'a file')
    await expect(new TelemetryRecorder(root).recordCounter('n')).rejects.toMatchObject({
      name: 'TelemetryError',
      code: 'IO',
      message: expect.stringContaining('state/telemetry'),
    })
  })
})

describe('several processes', () => {
  test('8 with 1,000 calls each: each line once, in each process in order', async () => {
    const root = makeWorkspace()
    const peers = await Peer.startMany(8)
    await Promise.all(
      peers.map((peer, number) =>
        peer.run(
          async ({ driftlock }, { root, number }) => {
            const recorder = new driftlock.TelemetryRecorder(root)
            for (let i = 0; i < 500; i++) await recorder.recordCounter(`p${number}`, i)
            await Promise.all(Array.from({ length: 500 }, (_, i) => recorder.recordCounter(`p${number}`, 500 + i)))
          },
          { root, number },
        ),
      ),
    )
    const lines = readLines(countersPath(root))
    expect(lines).toHaveLength(8000)
    for (let number = 0; number < 8; number++)
      expect(lines.filter(({ counter }) => counter === `p${number}`).map(({ value }) => value)).toEqual(
        Array.from({ length: 1000 }, (_, i) => i),
      )
  })

  test('beside plain appends of the orchestrator, and rotations', async () => {
    const root = makeWorkspace()
    makeFolderOf(countersPath(root))
    const peers = await Peer.startMany(4)
    const work = peers.map((peer, number) =>
      peer.run(
        async ({ driftlock, require }, { root, path, number }) => {
          const { appendFile } = require('node:fs/promises') as typeof import('node:fs/promises')
          const recorder = new driftlock.TelemetryRecorder(root)
          for (let i = 0; i < 500; i++) {
            const line = { timestamp: 't', counter: `p${number}`, value: i, metadata: { long: 'x'.repeat(i * 20) } }
            if (number % 2 === 0) await recorder.recordCounter(line.counter, i, line.metadata)
            else await appendFile(path, `${JSON.stringify(line)}\n`)
          }
        },
        { root, path: countersPath(root), number },
      ),
    )
    let rotations = 0
    const files = [countersPath(root)]
    const done = Promise.all(work).then(() => true)
    while (!(await Promise.race([done, sleep(20).then(() => false)]))) {
      if (!existsSync(countersPath(root))) continue
      const rotated = `${countersPath(root)}.${rotations++}`
      renameSync(countersPath(root), rotated)
      files.push(rotated)
    }
    expect(rotations).toBeGreaterThan(0)
    const lines = files
      .flatMap((path) => (existsSync(path) ? readFileSync(path, 'utf8').split('\n') : []))
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as { counter: string; value: number })
    for (let number = 0; number < 4; number++)
      expect(
        lines
          .filter(({ counter }) => counter === `p${number}`)
          .map(({ value }) => value)
          .sort((a, b) => a - b),
      ).toEqual(Array.from({ length: 500 }, (_, i) => i))
  })

  test('a half line of a killed process is ended, never cut, and spoils no other', async () => {
    const root = makeWorkspace()
    const recorder = new TelemetryRecorder(root)
    await recorder.recordCounter('before')
    appendFileSync(countersPath(root), counterLine('torn', 1).slice(0, 40))
    await recorder.recordCounter('after')
    const lines = readFileSync(countersPath(root), 'utf8').split('\n')
    expect(lines).toHaveLength(4)
    expect(lines[1]).toBe(counterLine('torn', 1).slice(0, 40))
    expect(JSON.parse(lines[2] ?? '')).toMatchObject({ counter: 'after' })
  })

  test('killed at any moment: what was acknowledged is there, whole', async () => {
    const root = makeWorkspace()
    for (let round = 0; round < 5; round++) {
      const peer = await Peer.start()
      let acknowledged = -1
      peer.child.on('message', (message: { told?: number }) => {
        if (message.told !== undefined) acknowledged = message.told
      })
      peer
        .run(
          async ({ driftlock }, { root, round }) => {
            const recorder = new driftlock.TelemetryRecorder(root)
            for (let i = 0; ; i++) {
              await recorder.recordCounter(`r${round}`, i, { long: 'x'.repeat(10_000) })
              process.send?.({ told: i })
            }
          },
          { root, round },
        )
        .catch(() => {})
      await sleep(100 + 40 * round)
      await peer.kill()
      // One that was killed may have torn its last line; the next append ends it.
      await new TelemetryRecorder(root).recordCounter('next')
      const values = readFileSync(countersPath(root), 'utf8')
        .split('\n')
        .filter((line) => line.endsWith('}'))
        .map((line) => JSON.parse(line) as { counter: string; value: number })
        .filter(({ counter }) => counter === `r${round}`)
        .map(({ value }) => value)
      expect(acknowledged).toBeGreaterThan(0)
      expect(values.slice(0, acknowledged + 1)).toEqual(Array.from({ length: acknowledged + 1 }, (_, i) => i))
    }
  })
})
