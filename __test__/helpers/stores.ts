import { urlAt } from './postgres.js'

/** The port of the server that tests share. */
export const postgresPort = Number(process.env.DRIFTLOCK_TEST_POSTGRES_PORT ?? 0)

/** Whether leases and records are on that server in this run of the file. */
export const onServer = process.env.DRIFTLOCK_TEST_STORE === 'postgres'

let schemas = 0

/** A schema that nobody else uses. */
export const newUrl = (more = ''): string => urlAt(postgresPort, `test ${process.pid} ${++schemas}`, more)
