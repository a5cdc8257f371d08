// Fails if a binary needs a newer glibc than the oldest one that Node 20 runs on.
//
//   node scripts/check-glibc.mjs FILE...
import { basename } from 'node:path'
import { fail, outputOf } from './lib.mjs'

const LIMIT = '2.28'

const files = process.argv.slice(2)
if (files.length === 0) fail('usage: node scripts/check-glibc.mjs FILE...')
for (const file of files) {
  const symbols = outputOf('objdump', ['-T', file]) ?? fail(`objdump can't read ${file}`)
  const versions = [...symbols.matchAll(/GLIBC_(\d+(?:\.\d+)+)/g)].map(([, version]) => version)
  if (versions.length === 0) fail(`${file} refers to no glibc symbol: is it a glibc binary at all?`)
  const newest = versions.reduce((a, b) => (isNewer(b, a) ? b : a))
  if (isNewer(newest, LIMIT)) {
    const lines = symbols.split('\n').filter((line) => line.includes(`GLIBC_${newest}`))
    fail(`${file} needs glibc ${newest}, newer than ${LIMIT}:\n${lines.join('\n')}`)
  }
  console.log(`${basename(file)}: needs glibc ${newest}; up to ${LIMIT} is allowed`)
}

function isNewer(a, b) {
  return a.localeCompare(b, 'en', { numeric: true }) > 0
}
