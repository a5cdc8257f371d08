// Reads what the agents left on disk: plain files and JSON.parse, nothing of the package.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'

/**
 * What is in the files.
 * @typedef {object} Results
 * @property {Record<string, any>[]} ledger
 * @property {Record<string, any>[]} attestations
 * @property {Record<string, any>} baselines
 * @property {Record<string, any>[]} leases
 */

/**
 * @param {string} workspace
 * @returns {Promise<{results: Results, violations: string[]}>} a violation for each file or line that can't be read
 */
export async function readResults(workspace) {
  /** @type {string[]} */
  const violations = []
  const directory = join(workspace, 'state', 'process')
  const read = (/** @type {string} */ name) => {
    try {
      return readFileSync(join(directory, name), 'utf8')
    } catch (error) {
      violations.push(`${name}: ${/** @type {Error} */ (error).message}`)
      return ''
    }
  }
  const parse = (/** @type {string} */ text, /** @type {string} */ where) => {
    try {
      return [JSON.parse(text)]
    } catch {
      violations.push(`${where} is not JSON: ${text.slice(0, 60)}`)
      return []
    }
  }
  const lines = (/** @type {string} */ name) => {
    const text = read(name)
    if (text !== '' && !text.endsWith('\n')) violations.push(`${name}: the last line is not finished`)
    const list = text.split('\n').map((line, index) => ({ line, where: `${name}: line ${index + 1}` }))
    // What follows the last line break is not a line.
    if (list.at(-1)?.line === '') list.pop()
    return list.flatMap(({ line, where }) => parse(line, where))
  }
  const results = {
    ledger: lines('ledger.jsonl'),
    attestations: lines('prompt_attestations.jsonl'),
    baselines: parse(read('prompt_baselines.json'), 'prompt_baselines.json')[0] ?? {},
    leases: await readLeases(join(workspace, 'state', 'orchestrator.db')),
  }
  return { results, violations }
}

/**
 * Only for a database that no process uses any more: here a second copy of SQLite opens it.
 * @param {string} path
 */
async function readLeases(path) {
  const { default: Database } = await import('better-sqlite3')
  const database = new Database(path, { readonly: true, fileMustExist: true })
  try {
    return /** @type {Record<string, any>[]} */ (database.prepare('SELECT * FROM phase_leases').all())
  } finally {
    database.close()
  }
}
