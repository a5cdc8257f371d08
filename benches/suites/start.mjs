// What the package costs before its first call.

import { execFileSync } from 'node:child_process'
import { copyFileSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { root } from '../../scripts/lib.mjs'
import { MODULES } from '../candidates.mjs'
import { runJob } from '../processes.mjs'
import { median } from '../summary.mjs'
import { makeFolder } from '../workspaces.mjs'

/** What a program's `import` gets. */
const ENTRIES = { ...MODULES, driftlock: join(root, 'index.mjs') }

/** @type {import('./suite.mjs').Step[]} */
export const start = [
  {
    name: 'import',
    async run({ results, quick, advance }) {
      const empty = join(makeFolder(), 'empty.mjs')
      writeFileSync(empty, '')
      const entries = Object.entries({ ...ENTRIES, empty })
      /** @type {Record<string, {milliseconds: number, bytes: number}[]>} */
      const imports = Object.fromEntries(entries.map(([candidate]) => [candidate, []]))
      for (let i = 0; i < (quick ? 5 : 41); i++) {
        for (const [candidate, module] of entries) imports[candidate]?.push(await runJob('import', { module }))
        advance()
      }
      const usual = (/** @type {string} */ candidate, /** @type {'milliseconds' | 'bytes'} */ figure) =>
        median((imports[candidate] ?? []).map((one) => one[figure]))
      for (const candidate of Object.keys(ENTRIES)) {
        results.add('import', candidate, usual(candidate, 'milliseconds'), 'ms')
        results.add('memory after import', candidate, usual(candidate, 'bytes'), 'bytes')
      }
      results.add('import: an empty module', 'driftlock', usual('empty', 'milliseconds'), 'ms')
    },
  },
  {
    name: 'binary',
    // biome-ignore lint/suspicious/useAwait: steps answer by promises
    async run({ results }) {
      // Not the driver beside it, which is loaded only for a server.
      const name = readdirSync(root).find((file) => /^driftlock\..+\.node$/.test(file))
      if (!name) throw new Error('there is no binary: npm run build')
      const copy = join(makeFolder(), name)
      copyFileSync(join(root, name), copy)
      try {
        execFileSync('strip', [copy])
      } catch (error) {
        if (/** @type {NodeJS.ErrnoException} */ (error).code !== 'ENOENT') throw error
      }
      results.add('binary', 'driftlock', statSync(copy).size, 'bytes')
    },
  },
]
