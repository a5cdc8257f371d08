// What is measured against what: the package, and the same calls written by hand in TypeScript.

import { createRequire } from 'node:module'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { lastChange, root, run } from '../scripts/lib.mjs'

const require = createRequire(import.meta.url)

const SOURCE = fileURLToPath(new URL('./reference', import.meta.url))
const COMPILED = join(root, 'node_modules', '.cache', 'driftlock-bench', 'reference')

/** @typedef {typeof import('../index.js')} Api */

/** Where each candidate's module is. */
export const MODULES = { driftlock: join(root, 'index.js'), reference: join(COMPILED, 'index.js') }

/** @typedef {keyof typeof MODULES} CandidateName */

/** Compiles the reference if it has changed: Node 20 can't run TypeScript. */
export function compileReference() {
  if (lastChange(MODULES.reference) > lastChange(SOURCE)) return
  const tsc = join(root, 'node_modules', 'typescript', 'bin', 'tsc')
  run(process.execPath, [tsc, '-p', SOURCE, '--outDir', COMPILED])
}

/**
 * The reference has those calls of the package that are measured.
 * @param {CandidateName} name
 * @returns {Api}
 */
export function load(name) {
  const api = require(MODULES[name])
  // A warning would be a failure, and each failure is found by its answer.
  if (name === 'driftlock') api.setLogLevel('silent')
  return api
}
