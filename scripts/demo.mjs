// npm run demo: installs and builds what is not there yet, then runs demo/demo.mjs with the arguments passed on.
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { fail, lastChange, needRust, npm, root, run } from './lib.mjs'

const [major] = process.versions.node.split('.')
if (Number(major) < 20) fail(`Node.js 20 or later is needed, this is ${process.version}.`)
needRust()

// npm writes the file inside node_modules at the end of each installation.
if (lastChange(join(root, 'node_modules/.package-lock.json')) < lastChange(join(root, 'package-lock.json'))) {
  console.log('Installing the dependencies (once) …')
  npm(['ci', '--loglevel=error'])
}
run(process.execPath, [join(root, 'scripts/build.mjs'), '--if-needed'])

const demo = join(root, 'demo/demo.mjs')
process.argv[1] = demo
await import(pathToFileURL(demo).href)
