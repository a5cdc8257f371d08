import { expect } from 'vitest'
import { LeaseError, type PhaseLeaseManager } from '../../index.js'
import { until } from './wait.js'

/** Whether an agent can get in; it then has the lease. */
export const getsIn = async (manager: PhaseLeaseManager, phase = 'SPEC'): Promise<boolean> =>
  (await manager.acquireLease('T', phase)).acquired

export async function expectLost({ signal }: { signal: AbortSignal }, message: RegExp): Promise<void> {
  await until(() => signal.aborted, 'the signal aborts')
  expect(signal.reason).toBeInstanceOf(LeaseError)
  expect(signal.reason).toMatchObject({ code: 'LEASE_LOST', message: expect.stringMatching(message) })
}
