// A lock file that is there while the lock is held.

import { mkdir, readFile, stat, unlink, writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { dirname } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

export interface LockOptions {
  timeout?: number
  retryDelay?: number
  maxRetries?: number
}

/** A lock older than this is taken to be a dead process's. */
const STALE_AFTER = 30_000

export async function acquireLock(
  path: string,
  { timeout = 5000, retryDelay = 50, maxRetries = 100 }: LockOptions = {},
): Promise<boolean> {
  const deadline = Date.now() + timeout
  for (let attempt = 0; attempt < maxRetries; attempt++) {
    if (await tryAcquire(path)) return true
    if (await isStale(path)) await releaseLock(path)
    else if (Date.now() + retryDelay > deadline) return false
    else await sleep(retryDelay)
  }
  return false
}

export async function releaseLock(path: string): Promise<void> {
  await unlink(path).catch(() => undefined)
}

export async function withFileLock<T>(
  path: string,
  operation: () => T | PromiseLike<T>,
  options?: LockOptions,
): Promise<T> {
  if (!(await acquireLock(path, options))) throw new Error(`Failed to acquire lock: ${path}`)
  try {
    return await operation()
  } finally {
    await releaseLock(path)
  }
}

async function tryAcquire(path: string): Promise<boolean> {
  const holder = JSON.stringify({ pid: process.pid, hostname: hostname(), acquiredAt: new Date().toISOString() })
  await mkdir(dirname(path), { recursive: true })
  try {
    await writeFile(path, holder, { flag: 'wx', mode: 0o600 })
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false
    throw error
  }
}

async function isStale(path: string): Promise<boolean> {
  try {
    const { acquiredAt } = JSON.parse(await readFile(path, 'utf8')) as { acquiredAt: string }
    return Date.now() - Date.parse(acquiredAt) > STALE_AFTER
  } catch {
    // Not JSON: damaged, so nobody's. Gone: nobody's either.
    return (await stat(path).catch(() => undefined)) !== undefined
  }
}
