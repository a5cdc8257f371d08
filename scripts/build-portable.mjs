// Builds binaries for Linux that run wherever Node 20 does (glibc 2.28), into artifacts/. An ordinary build needs the
// glibc of the machine that it was built on. zig is the linker and the C compiler.
//
//   node scripts/build-portable.mjs [TARGET...]        default: x86_64-unknown-linux-gnu
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { outputOf, root, run } from './lib.mjs'
import { toolsOf } from './tools.mjs'

const targets = process.argv.slice(2)
if (targets.length === 0) targets.push('x86_64-unknown-linux-gnu')
const installed = outputOf('cargo-zigbuild', ['--version']) && outputOf('zig', ['version'])
const tools = installed ? process.env : toolsOf('release-tools.txt')
// Clang's own threshold, 225, makes SQLite a sixth larger than gcc makes it, and no faster.
const env = { ...tools, CFLAGS: `${process.env.CFLAGS ?? ''} -mllvm -inline-threshold=100`.trim() }
for (const target of targets) {
  const versioned = target.endsWith('-gnu') ? `${target}.2.28` : target
  const options = ['--target', versioned, '--cross-compile', '--output-dir', 'artifacts']
  run(process.execPath, [join(root, 'scripts/build.mjs'), ...options], { env })
}
// The types are the same for all targets; those of the repository count.
rmSync(join(root, 'artifacts/index.d.ts'), { force: true })
