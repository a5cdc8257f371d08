// How much memory a process holds that knows all of a workspace.

import { promptOf, taskOf } from '../workspaces.mjs'

/** @param {{module: string, folder: string, size: number}} argument */
export async function run({ module, folder, size }) {
  const api = (await import(module)).default
  const prompts = new api.PromptAttestationManager(folder)
  const ledger = new api.PhaseLedger(folder)
  await prompts.attest(promptOf(size >> 1))
  await prompts.getAttestationHistory(taskOf(0))
  const { totalAttestations } = await prompts.getDriftStats()
  const { totalEntries } = await ledger.getStats()
  if (totalAttestations < size || totalEntries < size) throw new Error('not all of the workspace is known')
  global.gc?.()
  return process.memoryUsage.rss()
}
