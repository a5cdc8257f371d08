'use strict'

// Finds the binary for this machine, loads it, and tells it where its driver for PostgreSQL is.

const { readFileSync } = require('node:fs')
const { basename, dirname, join } = require('node:path')

/**
 * The packages of the binaries that are published. Their names are whole, for bundlers that look for them.
 *
 * @type {Record<string, () => any>}
 */
const PACKAGES = {}

const platform = thisPlatform()
const binding = load()
tellWhereDriverIs()
module.exports = binding

/** As the napi CLI names it. */
function thisPlatform() {
  const { platform, arch } = process
  if (platform === 'win32') return `${platform}-${arch}-msvc`
  if (platform !== 'linux') return `${platform}-${arch}`
  return `${platform}-${arch}-${isMusl() ? 'musl' : 'gnu'}${arch === 'arm' ? 'eabihf' : ''}`
}

function isMusl() {
  try {
    return readFileSync('/usr/bin/ldd', 'utf8').includes('musl')
  } catch {
    const report = /** @type {any} */ (process.report)
    // Without this it resolves the addresses of open connections, which can take seconds.
    report.excludeNetwork = true
    return !report.getReport().header.glibcVersionRuntime
  }
}

/** A binary that was built here counts more than one that was installed. */
function load() {
  const failures = []
  for (const attempt of [() => require(`./driftlock.${platform}.node`), PACKAGES[platform]]) {
    try {
      if (attempt) return attempt()
    } catch (error) {
      failures.push(/** @type {Error} */ (error))
    }
  }
  const broken = failures.find(({ message }) => !/^Cannot find (module|package)/.test(message))
  throw new Error(whyNotLoaded(broken), { cause: broken ?? failures.at(-1) })
}

/** @param {Error | undefined} broken why a binary that is there was refused: it wants a newer C library, for example */
function whyNotLoaded(broken) {
  if (broken) return `driftlock's binary for ${platform} can't be loaded: ${broken.message}`
  if (PACKAGES[platform]) {
    return (
      `driftlock's binary for ${platform}, the package driftlock-${platform}, is missing. Install again on this ` +
      'machine and with optional dependencies: no --omit=optional, no node_modules copied from another platform'
    )
  }
  return (
    `driftlock has no binary for ${platform}. Binaries exist for ${Object.keys(PACKAGES).join(', ')}; ` +
    'elsewhere build it from source with Rust: npm run build'
  )
}

/** The driver lies beside the binary, and is loaded only if a store needs it. */
function tellWhereDriverIs() {
  const { children } = /** @type {NodeModule} */ (module)
  const path = children?.find(({ id }) => id.endsWith('.node'))?.id
  if (path) binding.__setPostgresDriver(join(dirname(path), basename(path).replace('driftlock', 'driftlock-postgres')))
}
