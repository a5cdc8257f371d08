// Installs the packed package and runs smoke.mjs with it under each supported runtime. They come as npm packages.
import { spawnSync } from 'node:child_process'
import { cpSync, existsSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { installApplication, npm, root } from './install.mjs'

const RUNTIMES = [
  ['node20', 'node20/bin/node', []],
  ['node22', 'node22/bin/node', []],
  ['node24', 'node24/bin/node', []],
  ['bun', '@oven/bun-linux-x64/bin/bun', ['run']],
  ['deno', '@deno/linux-x64-glibc/deno', ['run', '--quiet', '--allow-all', '--node-modules-dir=manual']],
]

if (process.platform !== 'linux' || process.arch !== 'x64') throw new Error('the runtimes are for Linux on x64 only')
const programs = installRuntimes()
const application = installApplication()
const failed = RUNTIMES.filter(([name, path, options]) => !runsUnder(name, join(programs, path), options))
rmSync(application, { recursive: true })
console.log(`${RUNTIMES.length - failed.length} passed, ${failed.length} failed`)
process.exit(failed.length > 0 ? 1 : 0)

function installRuntimes() {
  const source = join(root, '__test__/package/runtimes')
  const folder = join(root, 'target/runtimes')
  const lock = 'package-lock.json'
  const modules = join(folder, 'node_modules')
  const installed = existsSync(join(modules, '.package-lock.json')) && read(folder, lock) === read(source, lock)
  if (!installed) {
    cpSync(source, folder, { recursive: true })
    npm(['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'], folder)
  }
  return modules
}

function read(folder, name) {
  return readFileSync(join(folder, name), 'utf8')
}

function runsUnder(name, program, options) {
  const version = spawnSync(program, ['--version'], { encoding: 'utf8' }).stdout?.split('\n')[0]
  console.log(`${name} (${version})`)
  const { status, signal, error } = spawnSync(program, [...options, 'smoke.mjs'], {
    cwd: application,
    stdio: 'inherit',
    timeout: 120_000,
  })
  if (status !== 0) console.log(`  ${name} ended with ${error?.message ?? signal ?? status}`)
  return status === 0
}
