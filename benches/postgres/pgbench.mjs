// What PostgreSQL takes for it by itself: statements sent by pgbench, each a transaction and one exchange of messages, as
// each call of ours is, on tables and indexes like ours. `plain` are those that somebody would write who needs no more than
// the lease or the record; `needed` also write the rows without which no repeated call would find its answer, and no
// statistics would be had without counting.

import { execFileSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const KEY = 'sha256(int8send(:n::bigint))'
const OWN_KEY = 'sha256(int8send(:client_id::bigint))'

/** @type {Record<string, {before?: string, plain: string, needed?: string}>} by operation; @ is the schema */
const SCRIPTS = {
  'acquire-and-release': {
    plain: `
\\set n random(1, 1000000000000)
INSERT INTO @.leases (key, task, phase, lock, lease_id, agent, token, acquired_at, expires_at, process, boot_id) VALUES (${KEY}, 'TASK', 'IMPLEMENT', :n::bigint, gen_random_uuid(), 'agent', nextval('@.tokens'), clock_timestamp(), clock_timestamp() + interval '300 s', '123-abcdefabcdef@host', 'b5d0c3a1-6f0a-4c54-9d3b-0d4f6f0f4f6e') ON CONFLICT DO NOTHING RETURNING *;
DELETE FROM @.leases WHERE key = ${KEY} AND agent = 'agent' RETURNING *;
`,
    needed: `
\\set n random(1, 1000000000000)
INSERT INTO @.leases (key, task, phase, lock, lease_id, agent, token, acquired_at, expires_at, process, boot_id) VALUES (${KEY}, 'TASK', 'IMPLEMENT', :n::bigint, gen_random_uuid(), 'agent', nextval('@.tokens'), clock_timestamp(), clock_timestamp() + interval '300 s', '123-abcdefabcdef@host', 'b5d0c3a1-6f0a-4c54-9d3b-0d4f6f0f4f6e') ON CONFLICT DO NOTHING RETURNING *;
WITH ended AS (DELETE FROM @.leases WHERE key = ${KEY} AND agent = 'agent' RETURNING acquired_at) INSERT INTO @.sessions AS s (session, request, answer, finished_holds, finished_hold_ms, used_at) SELECT lpad(to_hex(:client_id::int), 32, '0')::uuid, gen_random_uuid(), 1, 1, extract(milliseconds FROM clock_timestamp() - acquired_at), clock_timestamp() FROM ended ON CONFLICT (session) DO UPDATE SET request = excluded.request, answer = excluded.answer, finished_holds = s.finished_holds + 1, finished_hold_ms = s.finished_hold_ms + excluded.finished_hold_ms, used_at = excluded.used_at RETURNING answer;
`,
  },
  renew: {
    before: `INSERT INTO @.leases (key, task, phase, lock, lease_id, agent, token, acquired_at, expires_at, process)
      SELECT sha256(int8send(n::bigint)), 'TASK', 'IMPLEMENT', n, gen_random_uuid(), 'agent', nextval('@.tokens'), now(),
        now() + interval '300 s', '123-abcdefabcdef@host' FROM generate_series(0, 63) AS n ON CONFLICT DO NOTHING`,
    plain: `
UPDATE @.leases SET expires_at = clock_timestamp() + interval '300 s', renewed_count = renewed_count + 1 WHERE key = ${OWN_KEY} AND agent = 'agent' RETURNING lease_id, expires_at;
`,
  },
  attest: {
    before: `INSERT INTO @.baselines (key, task, phase, hash, version, updated_at)
      SELECT sha256(int8send(n::bigint)), 'TASK', 'IMPLEMENT', repeat('0', 64)::bytea, 1, '' FROM generate_series(0, 63) AS n
      ON CONFLICT DO NOTHING`,
    plain: `
INSERT INTO @.attestations (id, at, task_key, baseline_version, is_first, task, phase, prompt_hash) SELECT gen_random_uuid(), clock_timestamp(), :client_id::bigint, version, false, 'TASK', 'IMPLEMENT', repeat('0', 64)::bytea FROM @.baselines WHERE key = ${OWN_KEY} RETURNING *;
`,
    needed: `
WITH recorded AS (INSERT INTO @.attestations (id, at, task_key, baseline_version, is_first, task, phase, prompt_hash) SELECT gen_random_uuid(), clock_timestamp(), :client_id::bigint, version, false, 'TASK', 'IMPLEMENT', repeat('0', 64)::bytea FROM @.baselines WHERE key = ${OWN_KEY} RETURNING 1) INSERT INTO @.attestation_counts AS c (source, severity, records, drifted, counted_at) SELECT lpad(to_hex(:client_id::int), 32, '0')::uuid, 'none', 1, 0, clock_timestamp() FROM recorded ON CONFLICT (source, severity) DO UPDATE SET records = c.records + 1, counted_at = excluded.counted_at RETURNING records;
`,
  },
  // What is appended last is kept in a row of its own: one statement that waits for whoever has it, and sees his.
  append: {
    before: `CREATE TABLE IF NOT EXISTS @.head AS SELECT number, hash FROM @.entries ORDER BY number DESC LIMIT 1`,
    plain: `
WITH head AS (UPDATE @.head SET number = number + 1, hash = encode(sha256(hash), 'hex')::bytea RETURNING number, hash) INSERT INTO @.entries (number, task_key, tasks, request, hash, line) SELECT number, :client_id::bigint, 1, gen_random_uuid(), hash, repeat('x', 400)::bytea FROM head RETURNING line;
`,
  },
}

/** @typedef {'plain' | 'needed'} Kind */

/** Which kinds of statements there are. @param {string} operation */
export const kindsOf = (operation) =>
  /** @type {Kind[]} */ (SCRIPTS[operation]?.needed ? ['plain', 'needed'] : ['plain'])

/**
 * @param {import('./server.mjs').Server} server
 * @param {{operation: string, kind: Kind, schema: string, clients: number, seconds: number}} order
 * @returns {number[]} how long each took, in milliseconds
 */
export function runPgbench(server, { operation, kind, schema, clients, seconds }) {
  const { before, [kind]: script } = /** @type {{before?: string, plain: string, needed: string}} */ (
    SCRIPTS[operation]
  )
  if (before) server.execute(before.replaceAll('@.', `${schema}.`))
  const folder = mkdtempSync(join(server.folder, 'pgbench-'))
  const file = join(folder, 'script.sql')
  writeFileSync(file, script.replaceAll('@.', `${schema}.`))
  const args = ['-h', '127.0.0.1', '-p', `${server.port}`, '-U', 'postgres', '--no-vacuum', '--protocol=extended']
  args.push(`--client=${clients}`, `--jobs=${Math.min(clients, 2)}`, `--time=${seconds}`, '--log', `--file=${file}`)
  execFileSync(join(server.bin, 'pgbench'), [...args, 'postgres'], { cwd: folder, stdio: ['ignore', 'ignore', 'pipe'] })
  const logs = readdirSync(folder).filter((name) => name.startsWith('pgbench_log'))
  const lines = logs.flatMap((name) => readFileSync(join(folder, name), 'utf8').trim().split('\n'))
  return lines.map((line) => Number(line.split(' ')[2]) / 1000)
}
