'use strict'

const Table = require('cli-table3')
const { json } = require('./text.js')

const COLOURS = Object.freeze({ bold: 1, dim: 2, red: 31, green: 32, yellow: 33 })

/** Only terminals get colours, and none whose user doesn't want them (NO_COLOR, TERM=dumb; see tty.getColorDepth). */
const hasColours = () => process.stdout.isTTY === true && process.stdout.hasColors()

/** @param {keyof typeof COLOURS} name @param {string} text */
const colour = (name, text) => (hasColours() ? `\x1b[${COLOURS[name]}m${text}\x1b[0m` : text)

/** A severity in its colour. @param {string} severity */
function severityShown(severity) {
  if (severity === 'high') return colour('red', severity)
  return severity === 'medium' ? colour('yellow', severity) : severity
}

const NO_LINES = Object.fromEntries(
  ['top', 'top-mid', 'top-left', 'top-right', 'bottom', 'bottom-mid', 'bottom-left', 'bottom-right']
    .concat(['left', 'left-mid', 'mid', 'mid-mid', 'right', 'right-mid'])
    .map((name) => [name, '']),
)

/**
 * A table without lines. Its cells have been made safe to show.
 *
 * @param {string[]} head a name that begins with '#' is that of a column of numbers
 * @param {string[][]} rows
 */
function table(head, rows) {
  const drawn = new Table({
    head: head.map((name) => colour('bold', name.replace(/^#/, ''))),
    colAligns: head.map((name) => (name.startsWith('#') ? 'right' : 'left')),
    chars: { ...NO_LINES, middle: '  ' },
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': 0 },
  })
  drawn.push(...rows)
  return drawn
    .toString()
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n')
}

/** @param {string} text */
const print = (text) => process.stdout.write(`${text}\n`)

/**
 * Prints a command's answer: as JSON if that was asked for, else as text for people.
 *
 * @template T
 * @param {{json?: boolean}} options
 * @param {T} value
 * @param {(value: T) => string} toText
 */
function answer(options, value, toText) {
  print(options.json ? json(value) : toText(value))
}

module.exports = { answer, colour, print, severityShown, table }
