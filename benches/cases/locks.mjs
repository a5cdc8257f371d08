// A file lock that nobody else wants.

import { closeSync, openSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { lock } from 'proper-lockfile'

/** @type {import('./case.mjs').Case} */
export const fileLock = {
  name: 'withFileLock',
  setUp(api, folder) {
    const path = join(folder, 'work.lock')
    return { run: (i) => api.withFileLock(path, () => i), succeeded: (answer, i) => answer === i }
  },
  floors: {
    'proper-lockfile': (folder) => {
      const path = join(folder, 'work')
      writeFileSync(path, '')
      return {
        async run(i) {
          const release = await lock(path)
          await release()
          return i
        },
        succeeded: (answer, i) => answer === i,
      }
    },
    'open + close': (folder) => {
      const path = join(folder, 'work')
      return { run: () => closeSync(openSync(path, 'a')), succeeded: () => true }
    },
  },
}
