// The ledger.

import { PER_TASK, phaseOf, taskOf } from '../workspaces.mjs'
import { appendRaw } from './floors.mjs'

/** @typedef {import('./case.mjs').Case} Case */

/**
 * @param {import('../candidates.mjs').Api} api
 * @param {string} folder
 */
async function open(api, folder) {
  const ledger = new api.PhaseLedger(folder)
  await ledger.initialize()
  return ledger
}

/** @type {Case} */
export const append = {
  name: 'ledger append',
  async setUp(api, folder, size) {
    const ledger = await open(api, folder)
    let previous = (await ledger.getStats()).lastHash
    return {
      run: (i) => {
        const from = i % PER_TASK ? phaseOf(i - 1) : null
        return ledger.appendTransition(taskOf(size + i), from, phaseOf(i), ['src/dates.ts'], true, {
          agentType: 'worker',
          durationMs: 1234,
        })
      },
      succeeded: (entry) => {
        const follows = entry.previous_hash === previous
        previous = entry.entry_hash
        return follows
      },
    }
  },
  floors: { appendFileSync: appendRaw },
}

/** @type {Case} */
export const verification = {
  name: 'ledger verification',
  async setUp(api, folder, size) {
    const ledger = await open(api, folder)
    return {
      run: () => ledger.verify(),
      succeeded: (answer) => answer.valid && answer.entries_checked === size,
    }
  },
}

/** @type {Case} */
export const ledgerHistory = {
  name: 'ledger history of one task',
  async setUp(api, folder, size) {
    const ledger = await open(api, folder)
    return {
      run: (i) => ledger.getTaskHistory(taskOf((i * 7919) % (size || 1))),
      succeeded: (entries, i) =>
        entries.length === Math.min(size, PER_TASK) && (size === 0 || entries[0].task_id === taskOf((i * 7919) % size)),
    }
  },
}

/** @type {Case} */
export const ledgerStatistics = {
  name: 'ledger statistics',
  async setUp(api, folder, size) {
    const ledger = await open(api, folder)
    return { run: () => ledger.getStats(), succeeded: (answer) => answer.totalEntries === size }
  },
}
