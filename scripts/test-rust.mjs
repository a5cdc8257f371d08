// The Rust tests: by cargo-nextest where it is installed, else by cargo itself. Without the binding, whose Node-API
// symbols only Node has.
import { availableParallelism } from 'node:os'
import { outputOf, postgresPrograms, run } from './lib.mjs'

const features = ['--locked', '--workspace', '--exclude', 'driftlock-binding', '--no-default-features']
if (outputOf('cargo', ['nextest', '--version'])) {
  // Many tests mostly wait: for a server, a lock, the end of a lease.
  run('cargo', ['nextest', 'run', '--test-threads', String(2 * availableParallelism()), ...features])
  // nextest leaves the examples in the documentation out.
  run('cargo', ['test', '--doc', ...features])
  // What a test says about itself nextest shows only if it fails.
  if (!postgresPrograms()) console.error('NOT RUN on PostgreSQL: it is not installed (Debian: postgresql)')
} else {
  run('cargo', ['test', ...features])
}
