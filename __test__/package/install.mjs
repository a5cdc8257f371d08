// An application of its own that has the packed package installed, as a user's would.
import { execFileSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'

const here = dirname(fileURLToPath(import.meta.url))
export const root = dirname(dirname(here))
export const artifacts = join(root, 'artifacts')

/** The packed packages that fit this machine; `npm run pack` has made them. */
export function tarballs() {
  const names = readdirSync(artifacts).filter((name) => name.endsWith('.tgz'))
  const libc = process.platform === 'linux' ? process.report.getReport().header.glibcVersionRuntime : undefined
  const suffix = { linux: libc ? '-gnu' : '-musl', win32: '-msvc' }[process.platform] ?? ''
  const platform = `${process.platform}-${process.arch}${suffix}`
  const main = names.find((name) => /^driftlock-\d/.test(name))
  const binary = names.find((name) => name.startsWith(`driftlock-${platform}-`))
  if (!main || !binary) throw new Error(`no packages for ${platform} in artifacts/: run npm run pack first`)
  return { main: join(artifacts, main), binary: join(artifacts, binary), platform }
}

/** Makes a folder with an application, installs the packages into it without the network, and adds the test's files. */
export function installApplication() {
  const folder = mkdtempSync(join(tmpdir(), 'driftlock-package-'))
  const { main, binary } = tarballs()
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ private: true, name: 'application', version: '1.0.0' }))
  copyDependencies(join(folder, 'node_modules'))
  const options = ['--offline', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error']
  npm(['install', ...options, main, binary], folder)
  cpSync(join(here, 'consumer'), folder, { recursive: true })
  cpSync(join(here, 'smoke.mjs'), join(folder, 'smoke.mjs'))
  return folder
}

/** Puts there what the package depends on, and what that depends on, as the repository has it: npm need not fetch it. */
function copyDependencies(to) {
  const { packages } = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8'))
  const copied = new Set()
  const copyAll = (names, from) => {
    for (const name of Object.keys(names ?? {})) {
      const path = placeOf(name, from, packages)
      if (copied.has(path)) continue
      copied.add(path)
      cpSync(join(root, path), join(to, relative('node_modules', path)), { recursive: true })
      copyAll(packages[path].dependencies, path)
    }
  }
  copyAll(packages[''].dependencies, '')
}

/** Where Node finds a package that another one asks for: in the nearest node_modules from that one on upwards. */
function placeOf(name, from, packages) {
  const path = `${from ? `${from}/` : ''}node_modules/${name}`
  if (packages[path]) return path
  if (!from) throw new Error(`${name} is not in package-lock.json`)
  return placeOf(name, from.slice(0, Math.max(0, from.lastIndexOf('/node_modules/'))), packages)
}

/** Runs npm in a folder. */
export function npm(args, cwd) {
  const cli = process.env.npm_execpath
  const [program, first] = cli ? [process.execPath, [cli]] : ['npm', []]
  mkdirSync(cwd, { recursive: true })
  return execFileSync(program, [...first, ...args], {
    cwd,
    encoding: 'utf8',
    shell: !cli && process.platform === 'win32',
  })
}
