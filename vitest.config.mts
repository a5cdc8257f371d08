import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['__test__/**/*.test.ts'],
    // Waits for alerts: npm run test:monitoring.
    exclude: ['**/node_modules/**', '__test__/monitoring/end-to-end.test.ts'],
    // Native code, locks and signals are per process, so each file gets a process of its own.
    pool: 'forks',
    testTimeout: 30_000,
    hookTimeout: 30_000,
    // What users import is the file as it is, loaded by Node itself and not rewritten by a bundler.
    server: { deps: { external: [/\/index\.js$/] } },
  },
})
