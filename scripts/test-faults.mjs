// The long form of the tests in which the disk fails, the power is cut and files are damaged: every error at every
// operation, and many more cuts. Takes minutes; the short form is part of `npm test`.
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { run } from './lib.mjs'

process.env.DRIFTLOCK_FAULTS = 'long'
run('cargo', ['test', '--locked', '--no-default-features', '--release', '--test', 'faults'])
const vitest = join(dirname(createRequire(import.meta.url).resolve('vitest/package.json')), 'vitest.mjs')
run(process.execPath, [
  vitest,
  'run',
  '__test__/damage.test.ts',
  '__test__/faults.test.ts',
  '__test__/durability.test.ts',
])
