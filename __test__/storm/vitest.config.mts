import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['__test__/storm/**/*.storm.ts'],
    // Each storm wants the machine for itself, and a process of its own to crash.
    pool: 'forks',
    fileParallelism: false,
    testTimeout: 600_000,
    hookTimeout: 30_000,
    // The figures are shown as they come.
    disableConsoleIntercept: true,
    server: { deps: { external: [/\/index\.js$/] } },
  },
})
