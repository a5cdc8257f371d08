// An application of its own that has the packed package installed, as a user's would.
import { execFileSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readdirSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
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
  const options = ['--offline', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error']
  npm(['install', ...options, main, binary], folder)
  cpSync(join(here, 'consumer'), folder, { recursive: true })
  cpSync(join(here, 'smoke.mjs'), join(folder, 'smoke.mjs'))
  return folder
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
