import { ok, strictEqual } from 'node:assert'
import { createRequire } from 'node:module'
import * as all from 'driftlock'
import {
  AttestationError,
  acquireLock,
  DriftlockError,
  FileLockError,
  LeaseError,
  LedgerError,
  PhaseLeaseManager,
  PhaseLedger,
  PromptAttestationManager,
  releaseLock,
  resolveWorkspace,
  setLogger,
  setLogLevel,
  TelemetryError,
  TelemetryRecorder,
  withFileLock,
} from 'driftlock'
import * as again from './re-export.mjs'

const names = {
  AttestationError,
  DriftlockError,
  FileLockError,
  LeaseError,
  LedgerError,
  PhaseLeaseManager,
  PhaseLedger,
  PromptAttestationManager,
  TelemetryError,
  TelemetryRecorder,
  acquireLock,
  releaseLock,
  resolveWorkspace,
  setLogLevel,
  setLogger,
  withFileLock,
}
const required = createRequire(import.meta.url)('driftlock')
const exportedAgain = Object.entries(again)
for (const [name, value] of Object.entries(names)) {
  strictEqual(typeof value, 'function', name)
  ok(
    exportedAgain.some((pair) => pair[0] === name && pair[1] === value),
    `${name} by export *`,
  )
  strictEqual(required[name], value, `${name} by require`)
}
console.log(
  JSON.stringify(
    Object.keys(all)
      .filter((name) => name !== 'default' && name !== 'module.exports')
      .sort(),
  ),
)
