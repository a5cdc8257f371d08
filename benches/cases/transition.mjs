// What an agent does when it goes from one phase to the next.

import { PER_TASK, phaseOf, promptOf, taskOf } from '../workspaces.mjs'

/** Of tasks that no other case has touched. */
const FIRST = 10_000_000

/** @type {import('./case.mjs').Case} */
export const transition = {
  name: 'phase transition',
  async setUp(api, folder) {
    const leases = new api.PhaseLeaseManager(folder, { agentId: 'me' })
    const prompts = new api.PromptAttestationManager(folder)
    const ledger = new api.PhaseLedger(folder)
    await prompts.initialize()
    await ledger.initialize()
    return {
      async run(i) {
        const [task, phase, isFirst] = [taskOf(FIRST + i), phaseOf(i), i % PER_TASK === 0]
        const released = i === 0 || (await leases.releaseLease(taskOf(FIRST + i - 1), phaseOf(i - 1)))
        const { acquired } = await leases.acquireLease(task, phase)
        const { currentHash, hasDrift, error } = await prompts.attest(promptOf(FIRST + i))
        const entry = await ledger.appendTransition(
          task,
          isFirst ? null : phaseOf(i - 1),
          phase,
          [`prompt:${currentHash}`],
          true,
        )
        return { released, acquired, attested: currentHash !== '' && !hasDrift && !error, entered: entry.to_phase }
      },
      succeeded: ({ released, acquired, attested, entered }, i) =>
        released && acquired && attested && entered === phaseOf(i),
      close: () => leases.close(),
    }
  },
}
