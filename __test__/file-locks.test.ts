import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { acquireLock, releaseLock, withFileLock } from '../index.js'
import { sleep } from './helpers/wait.js'
import { makeWorkspace } from './helpers/workspace.js'

const once = { timeout: 0 }
const lockIn = (root = makeWorkspace()): string => join(root, 'a.lock')

/** The file is gone or empty: that is how an old process knows a free lock. */
const isFree = (path: string): boolean => !existsSync(path) || statSync(path).size === 0

describe('acquireLock and releaseLock', () => {
  test('one holder at a time', async () => {
    const path = lockIn()
    expect(await acquireLock(path)).toBe(true)
    expect(await acquireLock(path, once)).toBe(false)
    expect(await releaseLock(path)).toBeUndefined()
    expect(await acquireLock(path, once)).toBe(true)
    await releaseLock(path)
  })

  test('the file says who holds it, and is for its owner’s eyes only', async () => {
    const path = lockIn()
    await acquireLock(path)
    const { pid, hostname, acquiredAt } = JSON.parse(readFileSync(path, 'utf8'))
    expect(pid).toBe(process.pid)
    expect(hostname).toBe(process.env.HOSTNAME || 'unknown')
    expect(Math.abs(new Date(acquiredAt).getTime() - Date.now())).toBeLessThan(10_000)
    expect(statSync(path).mode & 0o777).toBe(0o600)
    await releaseLock(path)
    expect(isFree(path)).toBe(true)
  })

  test('missing folders are made', async () => {
    const path = join(makeWorkspace(), 'some', 'deep', 'folder', 'a.lock')
    expect(await acquireLock(path)).toBe(true)
    await releaseLock(path)
    expect(isFree(path)).toBe(true)
  })

  test('releasing what is not held is no error and makes nothing', async () => {
    const root = makeWorkspace()
    expect(await releaseLock(lockIn(root))).toBeUndefined()
    expect(await releaseLock(join(root, 'no', 'folder', 'a.lock'))).toBeUndefined()
    expect(readdirSync(root)).toEqual([])
    await acquireLock(lockIn(root))
    await releaseLock(lockIn(root))
    await releaseLock(lockIn(root))
    expect(await acquireLock(lockIn(root), once)).toBe(true)
    await releaseLock(lockIn(root))
  })

  test('different paths are different locks', async () => {
    const root = makeWorkspace()
    const paths = Array.from({ length: 50 }, (_, i) => join(root, `${i}.lock`))
    expect(await Promise.all(paths.map((path) => acquireLock(path, once)))).toEqual(paths.map(() => true))
    await Promise.all(paths.map((path) => releaseLock(path)))
    expect(paths.every(isFree)).toBe(true)
  })

  test('one file is one lock, however its path is written', async () => {
    const root = makeWorkspace()
    mkdirSync(join(root, 'folder'))
    symlinkSync(join(root, 'folder'), join(root, 'link'))
    const path = join(root, 'folder', 'a.lock')
    await acquireLock(path)
    expect(await acquireLock(`${root}/folder/../folder/./a.lock`, once)).toBe(false)
    expect(await acquireLock(join(root, 'link', 'a.lock'), once)).toBe(false)
    await releaseLock(path)
    expect(await acquireLock(join(root, 'link', 'a.lock'), once)).toBe(true)
    await releaseLock(join(root, 'link', 'a.lock'))
  })

  test.each([
    ['a directory', (root: string) => mkdirSync(lockIn(root))],
    ['a file in its way', (root: string) => rmSync(root, { recursive: true })],
  ])('false on an error: %s', async (name, prepare) => {
    const root = makeWorkspace()
    prepare(root)
    if (name !== 'a directory') writeFileSync(root, 'a file')
    expect(await acquireLock(lockIn(root), { timeout: 200 })).toBe(false)
    await expect(withFileLock(lockIn(root), () => Promise.resolve(), { timeout: 200 })).rejects.toThrow(
      `Failed to acquire lock: ${lockIn(root)}`,
    )
  })

  test.each([
    ['of a dead process', JSON.stringify({ pid: 2147483646, hostname: 'h', acquiredAt: new Date().toISOString() })],
    [
      'of a living process',
      JSON.stringify({ pid: process.ppid, hostname: process.env.HOSTNAME, acquiredAt: new Date().toISOString() }),
    ],
    ['of this process', JSON.stringify({ pid: process.pid, hostname: process.env.HOSTNAME, acquiredAt: Date.now() })],
    ['empty', ''],
    ['damaged', '{"pid":'],
  ])('a left-over file never blocks: %s', async (_, content) => {
    const path = lockIn()
    writeFileSync(path, content)
    expect(await acquireLock(path, once)).toBe(true)
    expect(JSON.parse(readFileSync(path, 'utf8')).pid).toBe(process.pid)
    expect(statSync(path).mode & 0o777).toBe(0o600)
    expect(await acquireLock(path, once)).toBe(false)
    await releaseLock(path)
    expect(isFree(path)).toBe(true)
  })
})

describe('waiting', () => {
  test('maxRetries counts attempts; none is no attempt', async () => {
    const path = lockIn()
    expect(await acquireLock(path, { maxRetries: 0 })).toBe(false)
    await expect(withFileLock(path, () => Promise.resolve(), { maxRetries: 0 })).rejects.toThrow(
      'Failed to acquire lock',
    )
    expect(await acquireLock(path, { maxRetries: 1 })).toBe(true)
    await releaseLock(path)
  })

  test('timeout 0 tries once', async () => {
    const path = lockIn()
    expect(await acquireLock(path, { timeout: 0 })).toBe(true)
    expect(await acquireLock(path, { timeout: 0 })).toBe(false)
    await releaseLock(path)
  })

  test('it ends at whichever limit comes first', async () => {
    const path = lockIn()
    await acquireLock(path)
    const started = Date.now()
    expect(await acquireLock(path, { timeout: 60_000, retryDelay: 10, maxRetries: 4 })).toBe(false)
    expect(await acquireLock(path, { timeout: 100, retryDelay: 10, maxRetries: 1_000_000 })).toBe(false)
    expect(Date.now() - started).toBeLessThan(10_000)
    await releaseLock(path)
  })

  test('it is not shorter than the time allowed', async () => {
    const path = lockIn()
    await acquireLock(path)
    const started = Date.now()
    expect(await acquireLock(path, { timeout: 300, retryDelay: 20, maxRetries: 1000 })).toBe(false)
    expect(Date.now() - started).toBeGreaterThanOrEqual(250)
    await releaseLock(path)
  })

  test('it succeeds when the holder lets go', async () => {
    const path = lockIn()
    await acquireLock(path)
    const waiting = acquireLock(path)
    await sleep(100)
    await releaseLock(path)
    expect(await waiting).toBe(true)
    await releaseLock(path)
  })

  test('explicit undefined is the default', async () => {
    const path = lockIn()
    expect(await acquireLock(path, { timeout: undefined, retryDelay: undefined, maxRetries: undefined })).toBe(true)
    await releaseLock(path)
    expect(await acquireLock(path, undefined)).toBe(true)
    await releaseLock(path)
  })

  test('waiters of one process get in one after the other, in the order in which they came', async () => {
    const path = lockIn()
    const order: number[] = []
    await acquireLock(path)
    const all = Array.from({ length: 20 }, (_, i) =>
      withFileLock(
        path,
        async () => {
          order.push(i)
          await sleep(1)
        },
        { timeout: 20_000, maxRetries: 10_000 },
      ),
    )
    await sleep(20)
    await releaseLock(path)
    await Promise.all(all)
    expect(order).toEqual(Array.from({ length: 20 }, (_, i) => i))
  })

  test('many of them don’t stop Node’s file system', async () => {
    const path = lockIn()
    await acquireLock(path)
    const waiting = Array.from({ length: 16 }, () => acquireLock(path, { timeout: 400, maxRetries: 1000 }))
    const { readFile } = await import('node:fs/promises')
    for (let i = 0; i < 10; i++) await readFile(__filename)
    await releaseLock(path)
    const outcomes = await Promise.all(waiting)
    expect(outcomes.filter(Boolean)).toHaveLength(1)
    await releaseLock(path)
  })
})

describe('withFileLock', () => {
  test('answers what the operation resolves to', async () => {
    const path = lockIn()
    const value = { some: ['thing'] }
    expect(await withFileLock(path, () => Promise.resolve(value))).toBe(value)
    expect(await withFileLock(path, async () => undefined)).toBeUndefined()
    expect(await withFileLock(path, async () => null)).toBeNull()
    expect(isFree(path)).toBe(true)
  })

  test('holds the lock while the operation runs, and no longer', async () => {
    const path = lockIn()
    await withFileLock(path, async () => {
      expect(JSON.parse(readFileSync(path, 'utf8')).pid).toBe(process.pid)
      expect(await acquireLock(path, once)).toBe(false)
      await sleep(50)
      expect(await acquireLock(path, once)).toBe(false)
    })
    expect(isFree(path)).toBe(true)
  })

  test('lets go when the operation fails, and passes on what it threw', async () => {
    const path = lockIn()
    const error = new TypeError('mine')
    await expect(withFileLock(path, () => Promise.reject(error))).rejects.toBe(error)
    await expect(
      withFileLock(path, () => {
        throw error
      }),
    ).rejects.toBe(error)
    await expect(withFileLock(path, () => Promise.reject('text'))).rejects.toBe('text')
    expect(await acquireLock(path, once)).toBe(true)
    await releaseLock(path)
  })

  test('is not re-entrant', async () => {
    const path = lockIn()
    await withFileLock(path, async () => {
      await expect(withFileLock(path, async () => 'in', { timeout: 50 })).rejects.toThrow(
        `Failed to acquire lock: ${path}`,
      )
    })
  })

  test('rejects without running the operation if the lock isn’t acquired', async () => {
    const path = lockIn()
    await acquireLock(path)
    let ran = false
    await expect(
      withFileLock(
        path,
        () => {
          ran = true
        },
        { timeout: 50 },
      ),
    ).rejects.toThrow(`Failed to acquire lock: ${path}`)
    expect(ran).toBe(false)
    expect(await acquireLock(path, once)).toBe(false)
    await releaseLock(path)
  })

  test('one process, many increments at once', async () => {
    const path = lockIn()
    let inside = 0
    let total = 0
    await Promise.all(
      Array.from({ length: 200 }, () =>
        withFileLock(
          path,
          async () => {
            expect(++inside).toBe(1)
            await Promise.resolve()
            total++
            inside--
          },
          { timeout: 20_000, maxRetries: 100_000, retryDelay: 1 },
        ),
      ),
    )
    expect(total).toBe(200)
    expect(isFree(path)).toBe(true)
  })
})
