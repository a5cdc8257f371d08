// The memory that a process holds when it knows a workspace.

import { MODULES } from '../candidates.mjs'
import { runJob } from '../processes.mjs'
import { median } from '../summary.mjs'

/**
 * @param {import('./suite.mjs').Context} context
 * @param {string} folder
 * @param {number} size
 */
export async function memoryAt({ results, advance }, folder, size) {
  const held = []
  for (let i = 0; i < 3; i++) held.push(await runJob('memory', { module: MODULES.driftlock, folder, size }))
  results.add(`memory at ${size}`, 'driftlock', median(held), 'bytes')
  advance()
}
