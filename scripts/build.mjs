// Builds the binary for this machine, and with it binding.js and index.d.ts; and the driver for PostgreSQL, a library that
// the binary loads.
//
//   node scripts/build.mjs [--if-needed] [options of `napi build`]
//
// With --if-needed it does nothing if what it would build is newer than its sources.
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { lastChange, needRust, root, run } from './lib.mjs'

/** A tenth of the binary, for no time that could be measured. */
const SMALLER = {
  // What is not marked to be inlined is only if it is shorter than this, in instructions of LLVM's; its default is 250.
  RUSTFLAGS: `${process.env.RUSTFLAGS ?? ''} -Cllvm-args=-inline-threshold=40`.trim(),
  // Nothing unwinds through C.
  CFLAGS: `${process.env.CFLAGS ?? ''} -fno-asynchronous-unwind-tables -fno-unwind-tables`.trim(),
}

const SOURCES = ['.cargo', 'binding', 'src', 'postgres-driver', 'build.rs', 'Cargo.toml', 'Cargo.lock', 'package.json']

/** The types that are written by hand, in the order in which index.d.ts has them; napi takes one file. */
const TYPES = ['general', 'leases', 'attestations', 'ledger', 'file-locks', 'logging', 'errors', 'metrics']

const args = process.argv.slice(2)
const options = args.filter((arg) => arg !== '--if-needed')
if (options.length === args.length || isStale()) build()

function isStale() {
  const binaries = readdirSync(root).filter((name) => name.endsWith('.node'))
  if (binaries.length < 2 || !['binding.js', 'index.d.ts'].every((name) => existsSync(join(root, name)))) return true
  const builtAt = Math.min(...binaries.map((name) => lastChange(join(root, name))))
  return builtAt < Math.max(...SOURCES.map((name) => lastChange(join(root, name))))
}

function build() {
  needRust()
  const types = TYPES.map((name) => readFileSync(join(root, 'src/node/types', `${name}.d.ts`), 'utf8'))
  mkdirSync(join(root, 'target'), { recursive: true })
  writeFileSync(join(root, 'target/types.d.ts'), types.join('\n'))
  const napi = join(dirname(createRequire(import.meta.url).resolve('@napi-rs/cli')), 'cli.js')
  const output = options.includes('--output-dir') ? [] : ['--output-dir', '.']
  const names = ['--no-js', '--dts', 'index.d.ts', ...output]
  const fixed = ['--platform', '--release', '--package', 'driftlock-binding', ...names]
  const env = { ...process.env, ...(process.platform === 'win32' ? { RUSTFLAGS: SMALLER.RUSTFLAGS } : SMALLER) }
  run(process.execPath, [napi, 'build', ...fixed, ...options], { env })
  writeLoader()
  const driver = ['--platform', '--release', '--no-js', '--cwd', 'postgres-driver', '--features', 'driver']
  run(process.execPath, [napi, 'build', ...driver, ...fromDriver(options)], { env })
}

/** The options as they are for the driver, whose folder is one further down. */
function fromDriver(options) {
  const output = options.indexOf('--output-dir')
  const others = output < 0 ? options : options.toSpliced(output, 2)
  return [...others, '--output-dir', join('..', output < 0 ? '.' : options[output + 1])]
}

/** napi's own loader is 850 lines, whose reading took a fifth of the time to import the package. */
function writeLoader() {
  const { parseTriple } = createRequire(import.meta.url)('@napi-rs/cli')
  const { name, napi } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  const platforms = napi.targets.map((target) => parseTriple(target).platformArchABI)
  const rows = platforms.map((platform) => `  '${platform}': () => require('${name}-${platform}'),\n`)
  const template = readFileSync(join(root, 'src/node/loader.js'), 'utf8')
  const loader = template.replace('PACKAGES = {}', `PACKAGES = {\n${rows.join('')}}`)
  writeFileSync(
    join(root, 'binding.js'),
    `// @ts-nocheck\n// Generated from src/node/loader.js by npm run build.\n${loader}`,
  )
}
