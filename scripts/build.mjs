// Builds the binary for this machine, and with it binding.js and index.d.ts.
//
//   node scripts/build.mjs [--if-needed] [options of `napi build`]
//
// With --if-needed it does nothing if what it would build is newer than its sources.
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { lastChange, needRust, root, run } from './lib.mjs'

const SOURCES = ['.cargo', 'src', 'build.rs', 'Cargo.toml', 'Cargo.lock', 'package.json']

const args = process.argv.slice(2)
const options = args.filter((arg) => arg !== '--if-needed')
if (options.length === args.length || isStale()) build()

function isStale() {
  const binary = readdirSync(root).find((name) => name.endsWith('.node'))
  if (!binary || !['binding.js', 'index.d.ts'].every((name) => existsSync(join(root, name)))) return true
  return lastChange(join(root, binary)) < Math.max(...SOURCES.map((name) => lastChange(join(root, name))))
}

function build() {
  needRust()
  const napi = join(dirname(createRequire(import.meta.url).resolve('@napi-rs/cli')), 'cli.js')
  const fixed = ['--platform', '--release', '--js', 'binding.js', '--dts', 'index.d.ts']
  run(process.execPath, [napi, 'build', ...fixed, ...options])
  dropLoaderType()
}

/** The loader's note to itself is no part of the package's interface: index.js does not export it. */
function dropLoaderType() {
  const path = join(root, 'index.d.ts')
  const types = readFileSync(path, 'utf8')
  const note = /\n*\/\*\*(?:(?!\*\/)[\s\S])*\*\/\nexport declare const __napiBindingTarget: .*\n+/
  const kept = types.replace(note, '\n\n')
  if (kept !== types) writeFileSync(path, kept)
}
