import { defineConfig } from 'vitest/config'
import { onPostgres } from '../helpers/projects.js'

/** What is promised of every store is tested on each of them. */
const ON_EACH_STORE = ['holds', 'leases']

export default defineConfig({
  test: {
    // Each storm wants the machine for itself, and a process of its own to crash.
    pool: 'forks',
    fileParallelism: false,
    testTimeout: 600_000,
    hookTimeout: 30_000,
    // The figures are shown as they come.
    disableConsoleIntercept: true,
    server: { deps: { external: [/\/index\.js$/] } },
    projects: [
      { extends: true, test: { name: 'workspace', include: ['__test__/storm/**/*.storm.ts'] } },
      ...onPostgres(ON_EACH_STORE.map((name) => `__test__/storm/${name}.storm.ts`)),
    ],
  },
})
