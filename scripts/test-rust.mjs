// The Rust tests: by cargo-nextest where it is installed, else by cargo itself. Without the binding, whose Node-API
// symbols only Node has.
import { outputOf, run } from './lib.mjs'

const features = ['--locked', '--workspace', '--exclude', 'driftlock-binding', '--no-default-features']
if (outputOf('cargo', ['nextest', '--version'])) {
  run('cargo', ['nextest', 'run', ...features])
  // nextest leaves the examples in the documentation out.
  run('cargo', ['test', '--doc', ...features])
} else {
  run('cargo', ['test', ...features])
}
