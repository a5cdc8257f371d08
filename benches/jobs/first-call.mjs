// The first call of a process on a workspace, from the constructor to the answer.

import { promptOf, taskOf } from '../workspaces.mjs'

/** @typedef {{module: string, folder: string, call: keyof typeof CALLS, size: number}} Argument */

/** @param {Argument} argument */
export const prepare = async ({ module }) => (await import(module)).default

const CALLS = {
  async attestation(api, folder, size) {
    const answer = await new api.PromptAttestationManager(folder).attest(promptOf(size >> 1))
    return answer.baselineHash === answer.currentHash
  },
  async history(api, folder, size) {
    const records = await new api.PromptAttestationManager(folder).getAttestationHistory(taskOf(size >> 1))
    return records.length > 0
  },
  async statistics(api, folder, size) {
    const { totalAttestations } = await new api.PromptAttestationManager(folder).getDriftStats()
    return totalAttestations >= size
  },
  async ledgerStatistics(api, folder, size) {
    const { totalEntries } = await new api.PhaseLedger(folder).getStats()
    return totalEntries >= size
  },
}

/**
 * @param {Argument} argument
 * @param {import('../candidates.mjs').Api} api
 */
export async function run({ folder, call, size }, api) {
  const start = performance.now()
  const succeeded = await CALLS[call](api, folder, size)
  const milliseconds = performance.now() - start
  if (!succeeded) throw new Error(`the first ${call} did not find what was prepared`)
  return milliseconds
}
