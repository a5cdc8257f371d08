import type { Peer } from './peer.js'
import { query, urlAt } from './postgres.js'
import { databasePath } from './workspace.js'

/** The port of the server that tests share. */
export const postgresPort = Number(process.env.DRIFTLOCK_TEST_POSTGRES_PORT ?? 0)

/** Whether leases and records are on that server in this run of the file. */
export const onServer = process.env.DRIFTLOCK_TEST_STORE === 'postgres'

let schemas = 0

/** A schema that nobody else uses. */
export const newUrl = (more = ''): string => urlAt(postgresPort, `test ${process.pid} ${++schemas}`, more)

/** What the server says to a statement, in which `@` stands for the schema of this test. */
export function queryStore(sql: string): string {
  const schema = new URL(process.env.DRIFTLOCK_STORE ?? '').searchParams.get('schema')
  return query(postgresPort, sql.replaceAll('@', `"${schema}"`))
}

/** Has the server go by this instead of its clock, which is the value of an SQL expression, once the schema is made. */
export const setClock = (expression: string): string =>
  queryStore(
    `CREATE OR REPLACE FUNCTION @.now_1() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN RETURN ${expression}; END $$`,
  )

/** No more time passes on the server. */
export const stopClock = (): string => setClock(`timestamptz '${new Date().toISOString()}'`)

/** Stops a process at a moment when it keeps nobody else from the store: on a server it never does for longer than a call. */
export async function stop(peer: Peer, root: string): Promise<void> {
  if (onServer) peer.child.kill('SIGSTOP')
  else await peer.stop(databasePath(root))
}
