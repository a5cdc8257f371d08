// A process that does one job of `jobs/`, named on the command line, when it is told to. It loads nothing else: what
// importing the package costs is measured here too.

const [, , name = '', argument = '{}'] = process.argv
const send = (/** @type {object} */ message) => new Promise((resolve) => process.send?.(message, resolve))

const job = await import(`./jobs/${name}.mjs`)
/** A job may have something to get ready before it begins. */
const prepared = await job.prepare?.(JSON.parse(argument))

process.once('disconnect', () => process.exit(1))
process.once('message', async () => {
  const value = await job.run(JSON.parse(argument), prepared, (/** @type {string} */ type) => send({ type }))
  await send({ type: 'answer', value })
  process.exit(0)
})
await send({ type: 'ready' })
