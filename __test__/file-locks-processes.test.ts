import { existsSync, readFileSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { acquireLock, releaseLock, withFileLock } from '../index.js'
import { Peer } from './helpers/peer.js'
import { sleep } from './helpers/wait.js'
import { makeWorkspace } from './helpers/workspace.js'

const once = { timeout: 0 }

/** A process that holds the lock. */
async function holder(path: string, env: Record<string, string | undefined> = {}): Promise<Peer> {
  const peer = await Peer.start(env)
  expect(await peer.run(({ driftlock }, path) => driftlock.acquireLock(path), path)).toBe(true)
  return peer
}

describe('several processes', () => {
  test('8 with 100 increments each of a number in a file', async () => {
    const root = makeWorkspace()
    const [path, number] = [join(root, 'a.lock'), join(root, 'number')]
    writeFileSync(number, '0')
    const peers = await Peer.startMany(8)
    await Promise.all(
      peers.map((peer) =>
        peer.run(
          async ({ driftlock, require }, { path, number }) => {
            const fs = require('node:fs') as typeof import('node:fs')
            for (let i = 0; i < 100; i++) {
              await driftlock.withFileLock(
                path,
                async () => {
                  const value = Number(await fs.promises.readFile(number, 'utf8'))
                  await fs.promises.writeFile(number, String(value + 1))
                },
                { timeout: 25_000, retryDelay: 1, maxRetries: 1_000_000 },
              )
            }
          },
          { path, number },
        ),
      ),
    )
    expect(readFileSync(number, 'utf8')).toBe('800')
    expect(existsSync(path) ? statSync(path).size : 0).toBe(0)
  })

  test('another one’s lock keeps us out, and says whose it is', async () => {
    const path = join(makeWorkspace(), 'a.lock')
    const peer = await holder(path, { HOSTNAME: 'box-7' })
    expect(await acquireLock(path, once)).toBe(false)
    expect(JSON.parse(readFileSync(path, 'utf8'))).toMatchObject({ pid: peer.pid, hostname: 'box-7' })
    await peer.run(({ driftlock }, path) => driftlock.releaseLock(path), path)
    expect(await acquireLock(path, once)).toBe(true)
    await releaseLock(path)
  })

  test('without a host name it is unknown', async () => {
    const path = join(makeWorkspace(), 'a.lock')
    await holder(path, { HOSTNAME: undefined })
    expect(JSON.parse(readFileSync(path, 'utf8')).hostname).toBe('unknown')
  })

  test('releaseLock never removes another one’s lock', async () => {
    const path = join(makeWorkspace(), 'a.lock')
    const peer = await holder(path)
    const content = readFileSync(path, 'utf8')
    await releaseLock(path)
    expect(readFileSync(path, 'utf8')).toBe(content)
    expect(await acquireLock(path, once)).toBe(false)
    await releaseLock(path)
    const third = await Peer.start()
    expect(await third.run(({ driftlock }, path) => driftlock.acquireLock(path, { timeout: 0 }), path)).toBe(false)
    await peer.kill()
    expect(await acquireLock(path, once)).toBe(true)
    await releaseLock(path)
  })

  test('a failed attempt leaves the holder’s file as it was', async () => {
    const path = join(makeWorkspace(), 'a.lock')
    await holder(path)
    const content = readFileSync(path, 'utf8')
    for (let i = 0; i < 5; i++) await acquireLock(path, { timeout: 20, retryDelay: 5 })
    await expect(withFileLock(path, async () => 'in', once)).rejects.toThrow(`Failed to acquire lock: ${path}`)
    expect(readFileSync(path, 'utf8')).toBe(content)
  })

  test('a killed holder’s lock is free at once', async () => {
    const path = join(makeWorkspace(), 'a.lock')
    for (let round = 0; round < 3; round++) {
      const peer = await holder(path)
      expect(await acquireLock(path, once)).toBe(false)
      await peer.kill()
      expect(await acquireLock(path, once)).toBe(true)
      expect(JSON.parse(readFileSync(path, 'utf8')).pid).toBe(process.pid)
      await releaseLock(path)
    }
  })

  test('somebody who waits gets it when the holder is killed', async () => {
    const path = join(makeWorkspace(), 'a.lock')
    const peer = await holder(path)
    const waiting = withFileLock(path, async () => 'in', { timeout: 20_000, maxRetries: 100_000 })
    await sleep(50)
    await peer.kill()
    expect(await waiting).toBe('in')
  })

  test('a living holder’s lock is never broken, however old it looks', async () => {
    const path = join(makeWorkspace(), 'a.lock')
    await holder(path)
    const past = new Date(Date.now() - 3_600_000)
    writeFileSync(path, JSON.stringify({ pid: 2147483646, hostname: 'elsewhere', acquiredAt: past.toISOString() }))
    utimesSync(path, past, past)
    expect(await acquireLock(path, { timeout: 300, retryDelay: 10 })).toBe(false)
    writeFileSync(path, '')
    expect(await acquireLock(path, once)).toBe(false)
    writeFileSync(path, '{"damaged')
    expect(await acquireLock(path, once)).toBe(false)
  })

  test('a child started meanwhile doesn’t inherit it', async () => {
    const path = join(makeWorkspace(), 'a.lock')
    const peer = await holder(path)
    const child = await peer.run(({ require }) => {
      const { spawn } = require('node:child_process') as typeof import('node:child_process')
      return (
        spawn(process.execPath, ['-e', 'setTimeout(() => {}, 10000)'], { stdio: 'ignore', detached: true }).pid ?? 0
      )
    })
    try {
      await peer.kill()
      expect(await acquireLock(path, once)).toBe(true)
      await releaseLock(path)
    } finally {
      process.kill(child, 'SIGKILL')
    }
  })

  test('lock files that come and go let nobody in twice', async () => {
    const root = makeWorkspace()
    const peers = await Peer.startMany(4)
    const overlaps = await Promise.all(
      peers.map((peer) =>
        peer.run(async ({ driftlock, require }, root) => {
          const fs = require('node:fs') as typeof import('node:fs')
          let overlaps = 0
          for (let i = 0; i < 150; i++) {
            const path = `${root}/${i % 3}.lock`
            if (!(await driftlock.acquireLock(path, { timeout: 25_000, retryDelay: 1, maxRetries: 1_000_000 })))
              throw new Error('no lock')
            try {
              fs.closeSync(fs.openSync(`${path}.inside`, 'wx'))
              fs.unlinkSync(`${path}.inside`)
            } catch {
              overlaps++
            }
            await driftlock.releaseLock(path)
          }
          return overlaps
        }, root),
      ),
    )
    expect(overlaps).toEqual([0, 0, 0, 0])
  })
})
