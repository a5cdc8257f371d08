// Leases. The floor is the bare statements.

import { openRaw } from '../raw-leases.mjs'
import { addLeases } from '../workspaces.mjs'

/** @typedef {import('./case.mjs').Case} Case */
/** @typedef {import('../candidates.mjs').Api} Api */

const PHASE = 'PLAN'
const KEYS = 1000
const key = (/** @type {number} */ i) => `TASK-${i}`

/**
 * @param {Api} api
 * @param {string} folder
 * @param {number} others leases that others hold
 * @param {string} [agentId]
 */
function open(api, folder, others, agentId = 'me') {
  const manager = new api.PhaseLeaseManager(folder, { agentId, maxRenewals: 1_000_000_000 })
  if (others > 0) addLeases(folder, others)
  return manager
}

/** Renewing, holding and being refused all take one lease that somebody has. */
const TASK = 'TASK-1'

/**
 * @param {Api} api
 * @param {string} folder
 * @param {number} others
 */
async function openHolding(api, folder, others) {
  const manager = open(api, folder, others)
  const { acquired } = await manager.acquireLease(TASK, PHASE)
  if (!acquired) throw new Error('the lease to be measured was not acquired')
  return manager
}

/** @param {InstanceType<Api['PhaseLeaseManager']>} manager */
async function letGo(manager) {
  await manager.releaseLease(TASK, PHASE)
  manager.close()
}

/** @type {Case} */
export const acquire = {
  name: 'lease acquire',
  setUp(api, folder, size) {
    const manager = open(api, folder, size)
    return {
      run: (i) => manager.acquireLease(key(i), PHASE),
      succeeded: (answer) => answer.acquired,
      close: () => manager.close(),
    }
  },
  floors: {
    'better-sqlite3': (folder) => {
      const raw = openRaw(folder)
      return { run: (i) => raw.insert(key(i)), succeeded: (changes) => changes === 1, close: raw.close }
    },
  },
}

/** @type {Case} */
export const release = {
  name: 'lease release',
  setUp(api, folder, size) {
    const manager = open(api, folder, size)
    return {
      before: (i) => manager.acquireLease(key(i), PHASE),
      run: (i) => manager.releaseLease(key(i), PHASE),
      succeeded: (answer) => answer === true,
      close: () => manager.close(),
    }
  },
  floors: {
    'better-sqlite3': (folder) => {
      const raw = openRaw(folder)
      return {
        before: (i) => raw.insert(key(i)),
        run: (i) => raw.delete(key(i)),
        succeeded: (changes) => changes === 1,
        close: raw.close,
      }
    },
  },
}

/** @type {Case} */
export const acquireAndRelease = {
  name: 'lease acquire + release',
  iterations: 20_000,
  setUp(api, folder, size) {
    const manager = open(api, folder, size)
    return {
      async run(i) {
        const { acquired } = await manager.acquireLease(key(i % KEYS), PHASE)
        return [acquired, await manager.releaseLease(key(i % KEYS), PHASE)]
      },
      succeeded: (answers) => answers.every((/** @type {boolean} */ answer) => answer),
      close: () => manager.close(),
    }
  },
  floors: {
    'better-sqlite3': (folder) => {
      const raw = openRaw(folder)
      return {
        run: (i) => raw.insert(key(i % KEYS)) + raw.delete(key(i % KEYS)),
        succeeded: (changes) => changes === 2,
        close: raw.close,
      }
    },
  },
}

/** @type {Case} */
export const renew = {
  name: 'lease renewal',
  async setUp(api, folder, size) {
    const manager = await openHolding(api, folder, size)
    return {
      run: () => manager.renewLease(TASK, PHASE),
      succeeded: (answer) => answer.renewed,
      close: () => letGo(manager),
    }
  },
}

/** @type {Case} */
export const holds = {
  name: 'holdsLease',
  async setUp(api, folder, size) {
    const manager = await openHolding(api, folder, size)
    return {
      run: () => manager.holdsLease(TASK, PHASE),
      succeeded: (answer) => answer === true,
      close: () => letGo(manager),
    }
  },
}

/** @type {Case} */
export const refused = {
  name: 'refused acquire',
  async setUp(api, folder, size) {
    const holder = await openHolding(api, folder, size)
    const manager = open(api, folder, 0, 'another')
    return {
      run: () => manager.acquireLease(TASK, PHASE),
      succeeded: (answer) => !answer.acquired && answer.holder === 'me',
      close() {
        manager.close()
        return letGo(holder)
      },
    }
  },
}
