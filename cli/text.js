'use strict'

// Text for terminals. What agents chose (task ids, names, reasons) may hold escape sequences and anything else.

/** Controls, invisible and direction-changing characters, halves of surrogate pairs, line separators. */
const UNSAFE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu
const UNSAFE_BUT_LINES = /(?!\n)[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu
/** Those of them that JSON.stringify leaves as they are. */
const UNSAFE_IN_JSON = /[\x7f-\x9f\p{Cf}\p{Zl}\p{Zp}]/gu

/** @param {string} character */
const escaped = (character) => `\\u{${/** @type {number} */ (character.codePointAt(0)).toString(16)}}`

/**
 * A text of any origin, on one line, with nothing in it that a terminal would obey.
 *
 * @param {unknown} text
 * @param {number} [limit] the most characters; the rest is cut
 */
function shown(text, limit = 60) {
  const whole = String(text)
  const characters = [...whole.slice(0, 2 * limit + 2)]
  const cut = characters.length > limit
  const kept = cut ? characters.slice(0, limit - 1).join('') : whole
  return kept.replace(UNSAFE, escaped) + (cut ? '…' : '')
}

/** A message, perhaps of several lines. @param {string} message */
const shownLines = (message) => message.replace(UNSAFE_BUT_LINES, escaped)

/** A value as JSON that is also safe to look at. @param {unknown} value @param {number} [indent] */
function json(value, indent = 2) {
  return JSON.stringify(value, null, indent).replace(UNSAFE_IN_JSON, (character) =>
    character
      .split('')
      .map((unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)
      .join(''),
  )
}

/** A duration in its two largest units. @param {number} ms */
function duration(ms) {
  if (!Number.isFinite(ms)) return '?'
  const seconds = Math.round(ms / 1000)
  if (seconds < 60) return `${seconds}s`
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m ${seconds % 60}s`
  const minutes = Math.round(ms / 60_000)
  if (minutes < 1440) return `${Math.floor(minutes / 60)}h ${minutes % 60}m`
  const hours = Math.round(ms / 3_600_000)
  return `${Math.floor(hours / 24)}d ${hours % 24}h`
}

/** A size for people. @param {number} bytes */
function size(bytes) {
  if (bytes < 1000) return `${bytes} B`
  if (bytes < 1e6) return `${(bytes / 1e3).toFixed(1)} kB`
  return bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(1)} GB`
}

const count = new Intl.NumberFormat('en').format

/** "1 lease", "2 leases". @param {number} number @param {string} noun @param {string} [plural] */
const counted = (number, noun, plural = `${noun}s`) => `${count(number)} ${number === 1 ? noun : plural}`

module.exports = { shown, shownLines, json, duration, size, count, counted }
