// Fuzzes what reads files that others write: npm run fuzz -- [--seconds N] [--target NAME]... [--keep FOLDER]
//
// libFuzzer, by the crate libfuzzer-sys, with coverage from the stable compiler's own pass: no nightly, hence no
// address sanitizer; the crate's unsafe code is the FFI alone. Each target runs for N seconds (60) on one core, as many
// at a time as there are cores, from the seeds in fuzz/seeds. What it finds stays in FOLDER (a temporary one): --keep
// goes on where it was left.
import { execFile, spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const folder = fileURLToPath(new URL('../fuzz/', import.meta.url))
const all = readdirSync(join(folder, 'fuzz_targets')).map((file) => file.replace(/\.rs$/, ''))
const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '60' },
    target: { type: 'string', multiple: true, default: all },
    keep: { type: 'string' },
  },
})
if (!/^[1-9]\d*$/.test(values.seconds)) throw new Error(`--seconds must be a whole number, got ${values.seconds}`)
for (const name of values.target) {
  if (!all.includes(name)) throw new Error(`--target must be one of ${all.join(', ')}, got ${name}`)
}

// As cargo-fuzz sets them, but for the sanitizer. A target triple keeps build scripts and macros free of them.
const coverage = ['level=4', 'inline-8bit-counters', 'pc-table', 'trace-compares']
const flags = [
  '--cfg fuzzing -Cpasses=sancov-module -Cdebug-assertions -Ccodegen-units=1',
  ...coverage.map((option) => `-Cllvm-args=-sanitizer-coverage-${option}`),
]
const host = /^host: (.*)$/m.exec(spawnSync('rustc', ['-vV'], { encoding: 'utf8' }).stdout)?.[1]
const target = process.env.CARGO_TARGET_DIR ? join(process.env.CARGO_TARGET_DIR, 'fuzz') : join(folder, 'target')
const built = spawnSync('cargo', ['build', '--release', '--locked', '--target', host, '--target-dir', target], {
  cwd: folder,
  env: { ...process.env, RUSTFLAGS: flags.join(' ') },
  stdio: 'inherit',
})
if (built.status !== 0) process.exit(built.status ?? 1)

const kept = values.keep ?? mkdtempSync(join(tmpdir(), 'driftlock-fuzz-'))
const queue = [...values.target]
let failed = false

/** Runs one target to its end, and tells how it went. */
function fuzz(name) {
  const corpus = join(kept, name)
  mkdirSync(corpus, { recursive: true })
  cpSync(join(folder, 'seeds', name), corpus, { recursive: true })
  const options = [`-max_total_time=${values.seconds}`, '-print_final_stats=1', `-artifact_prefix=${join(kept, name)}-`]
  return new Promise((resolve) => {
    execFile(join(target, host, 'release', name), [corpus, ...options], { maxBuffer: 1 << 30 }, (error, _, log) => {
      const executions = /number_of_executed_units: (\d+)/.exec(log)?.[1] ?? '?'
      const coverageAtEnd = log.match(/cov: \d+ ft: \d+/g)?.at(-1) ?? ''
      console.log(`${name}: ${error ? 'FAILED' : 'nothing found'}, ${executions} executions, ${coverageAtEnd}`)
      if (error) console.log(log.slice(-6000))
      failed ||= error !== null
      resolve()
    })
  })
}

const runner = async () => {
  for (let name = queue.shift(); name; name = queue.shift()) await fuzz(name)
}
await Promise.all(Array.from({ length: availableParallelism() }, runner))
if (failed) console.log(`The inputs are in ${kept}`)
else if (!values.keep) rmSync(kept, { recursive: true, force: true })
process.exit(failed ? 1 : 0)
