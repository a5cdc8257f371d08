// `npm run bench:instructions`: how many instructions each operation of the core executes, counted by callgrind. The
// figures hardly vary from run to run, so that they show what a change costs or saves even on a busy machine.
//
//   npm run bench:instructions -- [--profile] [NAME...]
//
// With --profile the functions that cost the most follow each operation.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { fail, needRust, outputOf, root, run } from '../scripts/lib.mjs'
import { tableOf } from './report.mjs'

const BUILD = ['bench', '--locked', '--no-default-features', '--bench', 'instructions', '--no-run']
/** The preparation is in both runs, so the difference is what the repetitions between them cost. */
const [FEWER, MORE] = [10, 40]
const FUNCTIONS_SHOWN = 15

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { profile: { type: 'boolean', default: false } },
})

needRust()
if (!outputOf('valgrind', ['--version'])) fail('valgrind is needed: it counts the instructions.')
run('cargo', BUILD)
const binary = findBinary()
const known = (outputOf(binary, []) ?? '').trim().split('\n')
const unknown = positionals.filter((name) => !known.includes(name))
if (unknown.length > 0) fail(`No such operation: ${unknown.join(', ')}. There are ${known.join(', ')}.`)

const folder = mkdtempSync(join(tmpdir(), 'driftlock-instructions-'))
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))

const table = tableOf(['operation', 'instructions'], 1)
for (const name of positionals.length > 0 ? positionals : known) {
  const each = Math.round((count(name, MORE) - count(name, FEWER)) / (MORE - FEWER))
  table.push([name, each.toLocaleString('en')])
  if (values.profile) console.log(`${name}\n${profile()}`)
}
console.log(table.toString())

function findBinary() {
  const lines = (outputOf('cargo', [...BUILD, '--message-format', 'json']) ?? '').split('\n')
  for (const line of lines.filter((text) => text.startsWith('{'))) {
    const { target, executable } = JSON.parse(line)
    if (target?.name === 'instructions' && executable) return executable
  }
  return fail('cargo did not say where the benchmark is')
}

/**
 * @param {string} name
 * @param {number} times
 * @returns {number} the instructions of a process that repeats the operation so often
 */
function count(name, times) {
  const options = ['--tool=callgrind', `--callgrind-out-file=${outputFile()}`, binary, name, String(times)]
  run('valgrind', ['--quiet', ...options], { stdio: ['ignore', 'ignore', 'inherit'] })
  const total = /PROGRAM TOTALS/
  const line = (outputOf('callgrind_annotate', [outputFile()]) ?? '').split('\n').find((text) => total.test(text)) ?? ''
  return Number(line.trim().split(' ')[0]?.replaceAll(',', ''))
}

/** Of the last run. */
function profile() {
  const lines = (outputOf('callgrind_annotate', ['--auto=no', outputFile()], { cwd: root }) ?? '').split('\n')
  const begin = lines.findIndex((line) => line.includes('file:function')) + 2
  return lines.slice(begin, begin + FUNCTIONS_SHOWN).join('\n')
}

function outputFile() {
  return join(folder, 'callgrind.out')
}
