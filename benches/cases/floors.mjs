// The least that writing a record costs: one append by name, without a lock or a hash.

import { appendFileSync, statSync } from 'node:fs'
import { join } from 'node:path'

const LINE = `${'x'.repeat(399)}\n`

/**
 * @param {string} folder
 * @returns {import('../measure.mjs').Operation}
 */
export function appendRaw(folder) {
  const path = join(folder, 'raw.jsonl')
  return {
    run: () => appendFileSync(path, LINE),
    succeeded: (_, i) => statSync(path).size === (i + 1) * LINE.length,
  }
}
