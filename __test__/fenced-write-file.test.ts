import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { type Fence, fencedWriteFile, LeaseError } from '../index.js'
import { acquire, codeOf, failure, files, outputPath, takeOver } from './helpers/fences.js'
import { expectRejected } from './helpers/shapes.js'
import { makeWorkspace, openLeases } from './helpers/workspace.js'

describe('fencedWriteFile', () => {
  async function prepare(): Promise<{ root: string; path: string; fence: Fence }> {
    const root = makeWorkspace()
    return { root, path: outputPath(root), fence: await acquire(openLeases(root)) }
  }

  test('writes strings and bytes', async () => {
    const { root, path, fence } = await prepare()
    const bytes = new Uint8Array([1, 0, 255, 254, 10])
    const all: [string | Uint8Array, Buffer][] = [
      ['', Buffer.alloc(0)],
      ['héllo\n\0👩‍👧', Buffer.from('héllo\n\0👩‍👧')],
      ['x\ud83d', Buffer.from('x\ufffd')],
      [bytes, Buffer.from(bytes)],
      [bytes.subarray(1, 3), Buffer.from([0, 255])],
      [Buffer.from('buffer'), Buffer.from('buffer')],
      [new Uint8Array(), Buffer.alloc(0)],
      ['long '.repeat(500_000), Buffer.from('long '.repeat(500_000))],
    ]
    for (const [data, expected] of all) {
      await fencedWriteFile(path, data, fence)
      expect(readFileSync(path).equals(expected)).toBe(true)
    }
    expect(readdirSync(root).sort()).toEqual(['output', 'state'])
  })

  test('writes what the data was when it was called', async () => {
    const { path, fence } = await prepare()
    const bytes = new Uint8Array(1000).fill(1)
    const written = fencedWriteFile(path, bytes, fence)
    bytes.fill(2)
    await written
    expect(readFileSync(path).every((byte) => byte === 1)).toBe(true)
  })

  test('keeps the mode of a file', async () => {
    const { path, fence } = await prepare()
    for (const mode of [0o600, 0o755, 0o444]) {
      writeFileSync(path, 'before')
      chmodSync(path, mode)
      await fencedWriteFile(path, 'after', fence)
      expect(readFileSync(path, 'utf8')).toBe('after')
      expect(statSync(path).mode & 0o777).toBe(mode)
      rmSync(path)
    }
  })

  test('replaces a link and does not follow it', async () => {
    const { root, path, fence } = await prepare()
    const target = join(root, 'target')
    writeFileSync(target, 'untouched')
    for (const to of [target, join(root, 'nowhere')]) {
      symlinkSync(to, path)
      await fencedWriteFile(path, 'content', fence)
      expect(lstatSync(path).isFile()).toBe(true)
      expect(readFileSync(path, 'utf8')).toBe('content')
      rmSync(path)
    }
    expect(readFileSync(target, 'utf8')).toBe('untouched')
    expect(existsSync(join(root, 'nowhere'))).toBe(false)
  })

  test('a refusal leaves the link, the file and its folder as they were', async () => {
    const { root, path, fence } = await prepare()
    const target = join(root, 'target')
    writeFileSync(target, 'untouched')
    symlinkSync(target, path)
    await takeOver(root)
    const before = files(root)
    expect(await codeOf(fencedWriteFile(path, 'content', fence))).toBe('FENCED')
    expect(lstatSync(path).isSymbolicLink()).toBe(true)
    expect(files(root)).toEqual(before)
  })

  test('a file that can’t be written is an error of its own', async () => {
    const { root, path, fence } = await prepare()
    mkdirSync(path)
    for (const path of [outputPath(root), join(root, 'missing', 'file')]) {
      const error = await failure(fencedWriteFile(path, 'content', fence))
      expect(error).toBeInstanceOf(LeaseError)
      expect(error?.code).toBe('IO')
    }
    expect(readdirSync(root).sort()).toEqual(['output', 'state'])
  })

  test('other data and paths are refused', async () => {
    const { path, fence } = await prepare()
    for (const data of [1, null, undefined, {}, ['a'], new ArrayBuffer(1)]) {
      await expectRejected(() => fencedWriteFile(path, data as never, fence), 'data', LeaseError)
    }
    for (const path of ['', 'a\0b', 7, undefined]) {
      await expectRejected(() => fencedWriteFile(path as never, 'content', fence), 'path', LeaseError)
    }
    expect(existsSync(path)).toBe(false)
  })
})
