import { join } from 'node:path'
import type { DriftlockError, Fence, PhaseLeaseManager } from '../../index.js'
import { openLeases, snapshot } from './workspace.js'

export const TASK = 'TASK-1'
export const PHASE = 'IMPLEMENT'

/** What a fence says of where its lease is. */
export const placeOf = ({ workspace, store }: PhaseLeaseManager): Pick<Fence, 'workspace' | 'store'> =>
  store === 'sqlite' ? { workspace } : { workspace, store }

/** Acquires the lease of a task and phase, and makes its fence. */
export async function acquire(manager: PhaseLeaseManager, taskId = TASK, phase = PHASE): Promise<Fence> {
  const { lease } = await manager.acquireLease(taskId, phase)
  if (!lease) throw new Error('the lease is not free')
  const fence = { taskId, phase, token: lease.fencing_token, leaseId: lease.lease_id }
  return { ...placeOf(manager), ...fence }
}

/** Has `heir` take the lease from whoever has it. */
export async function takeOver(root: string, taskId = TASK, phase = PHASE): Promise<Fence> {
  const heir = openLeases(root, { agentId: 'heir' })
  await heir.forceRelease(taskId, phase, { by: 'operator', reason: 'test' })
  return acquire(heir, taskId, phase)
}

/** What a call rejects with; undefined if it resolves. */
export const failure = (promise: Promise<unknown>): Promise<DriftlockError | undefined> =>
  promise.then(
    () => undefined,
    (error) => error,
  )

export const codeOf = async (promise: Promise<unknown>): Promise<string | undefined> => (await failure(promise))?.code

/** What is below `root`, but for the database, whose log also readers touch. */
export function files(root: string): Record<string, string> {
  const all = Object.entries(snapshot(root))
  return Object.fromEntries(all.filter(([path]) => !path.startsWith('/state/orchestrator.db')))
}

export const outputPath = (root: string): string => join(root, 'output')
