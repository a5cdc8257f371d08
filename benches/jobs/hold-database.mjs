// A process that holds a database's write lock for a while.

import { setTimeout as sleep } from 'node:timers/promises'
import Database from 'better-sqlite3'

/** @param {{path: string}} argument */
export const prepare = ({ path }) => new Database(path, { timeout: 5000 })

/**
 * @param {{milliseconds: number}} argument
 * @param {Database.Database} database
 * @param {(type: string) => Promise<unknown>} tell
 */
export async function run({ milliseconds }, database, tell) {
  database.exec('BEGIN IMMEDIATE')
  await tell('holding')
  await sleep(milliseconds)
  database.exec('COMMIT')
}
