import { startPostgres } from './postgres.js'

/** One server for all test files. */
export default async function setup(): Promise<() => Promise<void>> {
  const { port, stop } = await startPostgres()
  process.env.DRIFTLOCK_TEST_POSTGRES_PORT = String(port)
  return stop
}
