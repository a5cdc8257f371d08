// The entry for `import`. Node takes 3 ms longer to import CommonJS than to require it, as it looks for names in its text.

import { createRequire } from 'node:module'

const driftlock = createRequire(import.meta.url)('./index.js')

export default driftlock
export const {
  acquireLock,
  AttestationError,
  DriftlockError,
  fencedWriteFile,
  FileLockError,
  LeaseError,
  LedgerError,
  metrics,
  metricsText,
  PhaseLeaseManager,
  PhaseLedger,
  PromptAttestationManager,
  registerOpenTelemetry,
  releaseLock,
  resolveWorkspace,
  setLogger,
  setLogLevel,
  TelemetryError,
  TelemetryRecorder,
  withFileLock,
} = driftlock
