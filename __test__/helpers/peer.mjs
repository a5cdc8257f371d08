// A process of its own for the tests: runs the functions that the test sends it, one message each.
import { createRequire } from 'node:module'
import { runInThisContext } from 'node:vm'

const require = createRequire(import.meta.url)

const context = {
  driftlock: require('../../index.js'),
  require,
  /** What one function leaves here, a later one finds. */
  kept: {},
  sleep: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
  get Database() {
    return require('better-sqlite3')
  },
}

process.on('message', async ({ id, source, argument }) => {
  try {
    const run = runInThisContext(`(${source})`)
    process.send({ id, value: await run(context, argument) })
  } catch (error) {
    process.send({ id, error: { name: error?.name, message: String(error?.message ?? error), code: error?.code } })
  }
})
process.on('disconnect', () => process.exit(0))
process.send({ ready: true })
