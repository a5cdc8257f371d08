// What a project would write for itself: the same calls in plain TypeScript, without the logging that such code has.
// It is here to be measured, not to be used: it loses records and locks, as the README tells.

export { withFileLock } from './file_lock'
export { PhaseLeaseManager } from './phase_lease'
export { PhaseLedger } from './phase_ledger'
export { PromptAttestationManager } from './prompt_attestation'
