// Runs the storms: many processes, killed and stopped at random, and checks of what they leave behind; then a minute
// of each fuzz target.
//
//   npm run test:storm [-- [--short] [options of vitest]]     with options of vitest, without the fuzz targets
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { root, run } from './lib.mjs'

const args = process.argv.slice(2)
const options = args.filter((arg) => arg !== '--short')
if (options.length < args.length) process.env.STORM = 'short'

const vitest = join(dirname(createRequire(import.meta.url).resolve('vitest/package.json')), 'vitest.mjs')
run(process.execPath, [
  vitest,
  'run',
  '--config',
  join(root, '__test__/storm/vitest.config.mts'),
  '--root',
  root,
  ...options,
])
if (options.length === 0) run(process.execPath, [join(root, 'scripts/fuzz.mjs')])
