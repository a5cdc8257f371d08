'use strict'

// Reads a journal, one JSON object a line, from where it was left: never more of it in memory than a piece.

const { open } = require('node:fs/promises')

const PIECE = 1 << 20
/** A line longer than this is counted as damaged instead of being kept. */
const LONGEST_LINE = 64 << 20
const NEW_LINE = 10

/**
 * Follows a journal. If the file is another one than before, or shorter, it is read from its beginning.
 */
class Journal {
  #path
  /** @type {{device: bigint, inode: bigint} | undefined} */
  #file
  #offset = 0
  /** The beginning of a line whose end is not there yet. @type {Buffer[]} */
  #rest = []
  #restBytes = 0
  #isSkipping = false

  /** Whole lines, damaged ones too. */
  lines = 0
  /** Lines that are no JSON object. */
  damagedLines = 0
  /** The first of them, counted from 1. @type {number | undefined} */
  firstDamagedLine

  /** @param {string} path */
  constructor(path) {
    this.#path = path
  }

  /** How many bytes there are behind the last line end; only a crash or a writer at work leaves some. */
  get unfinishedBytes() {
    return this.#restBytes
  }

  /** Whether there was a file when it was last read. */
  get exists() {
    return this.#file !== undefined
  }

  /**
   * Reads what is new.
   *
   * @param {(record: Record<string, unknown>) => void} onRecord called with each object
   * @param {() => void} [onRestart] called first if what was read before no longer counts
   */
  async read(onRecord, onRestart = () => {}) {
    const handle = await open(this.#path, 'r').catch((error) => {
      if (error.code === 'ENOENT') return undefined
      throw error
    })
    if (!handle) {
      if (this.#file) this.#restart(onRestart)
      return
    }
    try {
      const { dev, ino, size } = await handle.stat({ bigint: true })
      const isSame = this.#file?.device === dev && this.#file.inode === ino && size >= BigInt(this.#offset)
      if (this.#file && !isSame) this.#restart(onRestart)
      this.#file = { device: dev, inode: ino }
      const piece = Buffer.allocUnsafe(PIECE)
      for (;;) {
        const { bytesRead } = await handle.read(piece, 0, PIECE, this.#offset)
        if (bytesRead === 0) return
        this.#offset += bytesRead
        this.#take(piece.subarray(0, bytesRead), onRecord)
      }
    } finally {
      await handle.close()
    }
  }

  /** @param {() => void} onRestart */
  #restart(onRestart) {
    this.#file = undefined
    this.#offset = 0
    this.#keepRest(Buffer.alloc(0))
    this.#isSkipping = false
    this.lines = 0
    this.damagedLines = 0
    this.firstDamagedLine = undefined
    onRestart()
  }

  /** @param {Buffer} rest */
  #keepRest(rest) {
    this.#rest = rest.length > 0 ? [Buffer.from(rest)] : []
    this.#restBytes = rest.length
  }

  /** @param {Buffer} piece @param {(record: Record<string, unknown>) => void} onRecord */
  #take(piece, onRecord) {
    let start = 0
    for (let end = piece.indexOf(NEW_LINE); end >= 0; end = piece.indexOf(NEW_LINE, start)) {
      const part = piece.subarray(start, end)
      const line = this.#rest.length > 0 ? Buffer.concat([...this.#rest, part]) : part
      this.#parse(line, onRecord)
      this.#keepRest(Buffer.alloc(0))
      start = end + 1
    }
    if (start === 0 && this.#rest.length > 0) {
      this.#restBytes += piece.length
      if (this.#restBytes > LONGEST_LINE) this.#isSkipping = true
      if (this.#isSkipping) this.#rest = [Buffer.alloc(0)]
      else this.#rest.push(Buffer.from(piece))
    } else {
      this.#keepRest(piece.subarray(start))
    }
  }

  /** @param {Buffer} line @param {(record: Record<string, unknown>) => void} onRecord */
  #parse(line, onRecord) {
    this.lines++
    const record = this.#isSkipping ? undefined : parsed(line)
    this.#isSkipping = false
    if (record) return onRecord(record)
    this.damagedLines++
    this.firstDamagedLine ??= this.lines
  }
}

/** @param {Buffer} line @returns {Record<string, unknown> | undefined} */
function parsed(line) {
  try {
    const value = JSON.parse(line.toString('utf8'))
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? value : undefined
  } catch {
    return undefined
  }
}

module.exports = { Journal }
