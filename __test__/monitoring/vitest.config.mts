import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['__test__/monitoring/**/*.test.ts'],
    pool: 'forks',
    // Alerts come in time only if nothing else keeps the machine busy.
    fileParallelism: false,
    testTimeout: 60_000,
    hookTimeout: 30_000,
    server: { deps: { external: [/\/index\.js$/] } },
  },
})
