// A PostgreSQL server as the demo sees it: by psql and its tables' own words, with nothing of the package.

import { spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { UsageError } from './options.mjs'

/** @typedef {import('./results.mjs').Results} Results */

export class Server {
  #environment
  #schema
  /** Whether the schema is this run's own, so that nobody misses it. */
  #isOwn

  /** @param {string} store a URL; without a schema in it the run gets one of its own */
  constructor(store) {
    const url = parse(store)
    const named = url.searchParams.get('schema')
    this.#isOwn = named === null
    this.#schema = named ?? `driftlock_demo_${randomBytes(4).toString('hex')}`
    url.searchParams.set('schema', this.#schema)
    this.url = url.href
    this.#environment = environmentOf(url)
  }

  /** Makes sure that psql is there and gets in, and that nobody has used the schema. */
  check() {
    const found = this.#query(`SELECT to_regclass('${this.#name('versions').replaceAll("'", "''")}') IS NULL`)
    if (found !== 't') throw new UsageError(`the schema ${this.#schema} has been used: name another, or none`)
  }

  /** @returns {Results} */
  readResults() {
    const text = (/** @type {string} */ column) => `convert_from(${column}, 'UTF8')`
    const time = (/** @type {string} */ column) =>
      `to_char(${column} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')`
    const baseline = `CASE WHEN is_first THEN NULL ELSE coalesce(drifted_from, prompt_hash) END`
    const baselines = this.#rows(
      `SELECT ${text('task')} AS task_id, ${text('phase')} AS phase, ${text('hash')} AS hash, version`,
      'baselines',
    )
    return {
      ledger: this.#rows(`SELECT ${text('line')} AS line`, 'entries', 'number').map(({ line }) => JSON.parse(line)),
      attestations: this.#rows(
        `SELECT ${text('task')} AS task_id, ${text('phase')} AS phase, ${text('prompt_hash')} AS prompt_hash,
           ${text(baseline)} AS baseline_hash, drifted_from IS NOT NULL AS drift_detected,
           CASE WHEN drifted_from IS NULL THEN 'none' ELSE ${text('severity')} END AS severity`,
        'attestations',
        'number',
      ).map(({ baseline_hash, ...record }) => ({ ...record, baseline_hash: baseline_hash ?? undefined })),
      baselines: Object.fromEntries(baselines.map(({ task_id, phase, ...value }) => [`${task_id}:${phase}`, value])),
      leases: this.#rows(
        `SELECT ${text('task')} AS task_id, ${text('phase')} AS phase, ${text('agent')} AS agent_id,
           ${time('expires_at')} AS expires_at`,
        'leases',
      ),
    }
  }

  /** Leaves the server as it was, unless somebody named the schema. */
  forget() {
    if (this.#isOwn) this.#query(`DROP SCHEMA IF EXISTS ${quoted(this.#schema)} CASCADE`)
  }

  /** @param {string} select @param {string} table @param {string} [order] @returns {Record<string, any>[]} */
  #rows(select, table, order = '1, 2') {
    const rows = this.#query(
      `SELECT coalesce(json_agg(row), '[]') FROM (${select} FROM ${this.#name(table)} ORDER BY ${order}) AS row`,
    )
    return JSON.parse(rows)
  }

  /** @param {string} table */
  #name(table) {
    return `${quoted(this.#schema)}.${quoted(table)}`
  }

  /** @param {string} sql */
  #query(sql) {
    const options = ['--no-psqlrc', '--quiet', '--tuples-only', '--no-align', '--set=ON_ERROR_STOP=1', '--command', sql]
    const env = {
      ...process.env,
      ...this.#environment,
      PGCONNECT_TIMEOUT: '10',
      PGOPTIONS: '-c client_min_messages=error',
    }
    const { status, stdout, stderr, error } = spawnSync('psql', options, { env, encoding: 'utf8', maxBuffer: 2 ** 28 })
    if (error) throw new UsageError('--store needs psql, which reads the results (Debian: postgresql-client)')
    if (status !== 0) throw new UsageError(`psql can't ask the server: ${stderr.trim()}`)
    return stdout.trim()
  }
}

/** @param {string} store @returns {URL} */
function parse(store) {
  try {
    if (/^postgres(ql)?:\/\//.test(store)) return new URL(store)
  } catch {}
  throw new UsageError('--store takes a URL such as postgres://user:password@host:5432/database')
}

/** What psql is told by, so that no password is in its command line. @param {URL} url */
function environmentOf(url) {
  const option = (/** @type {string} */ name) => url.searchParams.get(name)
  const values = {
    PGHOST: option('host') ?? decodeURIComponent(url.hostname),
    PGPORT: option('port') ?? url.port,
    PGUSER: option('user') ?? decodeURIComponent(url.username),
    PGPASSWORD: option('password') ?? decodeURIComponent(url.password),
    PGDATABASE: option('dbname') ?? decodeURIComponent(url.pathname.slice(1)),
    PGSSLMODE: option('sslmode'),
    PGSSLROOTCERT: option('sslrootcert'),
  }
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value))
}

/** @param {string} name */
const quoted = (name) => `"${name.replaceAll('"', '""')}"`
