'use strict'

/** Aborts when the user or the system asks the process to end, which it then does in its own time. */
function untilStopped() {
  const controller = new AbortController()
  for (const name of /** @type {const} */ (['SIGINT', 'SIGTERM'])) process.once(name, () => controller.abort())
  return controller.signal
}

module.exports = { untilStopped }
