import { beforeEach } from 'vitest'
import { newUrl } from './stores.js'

// Each test has a schema of its own, also in the processes that it starts.
beforeEach(() => {
  process.env.DRIFTLOCK_STORE = newUrl()
})
