import type { TestProjectConfiguration } from 'vitest/config'
import { whereIsPostgres } from './postgres.js'

/** These files on a PostgreSQL server of the run's own; where it isn't installed, it is said that they are not run. */
export function onPostgres(include: string[]): TestProjectConfiguration[] {
  if (!whereIsPostgres()) return []
  return [
    {
      extends: true,
      test: {
        name: 'postgres',
        env: { DRIFTLOCK_TEST_STORE: 'postgres' },
        include,
        globalSetup: ['__test__/helpers/postgres-server.ts'],
        setupFiles: ['__test__/helpers/on-postgres.ts'],
      },
    },
  ]
}
