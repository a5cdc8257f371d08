import { availableParallelism } from 'node:os'
import { defineConfig } from 'vitest/config'
import { onPostgres } from './__test__/helpers/projects.js'

/** What is promised of every store is tested on each of them. */
const ON_EACH_STORE = [
  'administration',
  'dead-holders',
  'fenced-write-file',
  'fences',
  'hold-many',
  'holds',
  'leases',
  'leases-processes',
  'leases-stats',
  'lease-totals',
  'odd-strings',
  'queue-processes',
]

export default defineConfig({
  test: {
    // Native code, locks and signals are per process, so each file gets a process of its own.
    pool: 'forks',
    // One less would leave a core idle, as tests mostly wait for others.
    maxWorkers: availableParallelism(),
    testTimeout: 30_000,
    hookTimeout: 30_000,
    // What users import is the file as it is, loaded by Node itself and not rewritten by a bundler.
    server: { deps: { external: [/\/index\.js$/] } },
    projects: [
      {
        extends: true,
        test: {
          name: 'workspace',
          include: ['__test__/**/*.test.ts'],
          // Waits for alerts: npm run test:monitoring.
          exclude: ['**/node_modules/**', '__test__/monitoring/end-to-end.test.ts', '__test__/postgres/**'],
        },
      },
      ...onPostgres(['__test__/postgres/*.test.ts', ...ON_EACH_STORE.map((name) => `__test__/${name}.test.ts`)]),
    ],
  },
})
