/** The base of all errors of this package. */
export declare class DriftlockError extends Error {
  constructor(code: string, message: string, options?: ErrorOptions)
  /**
   * Names the kind of failure and stays the same from version to version: `INVALID_ARGUMENT`, `IO`, `DATABASE`,
   * `DATABASE_LOCKED`, `SERVER`, `SERVER_UNREACHABLE`, `WOULD_BLOCK`, `CLOSED`, `JOURNAL_LOCKED`, `LOCK_NOT_ACQUIRED`,
   * `LEASE_HELD`, `LEASE_LOST`, `FENCED`, `NETWORK_FILE_SYSTEM`, `OPENTELEMETRY_MISSING`, `PLATFORM_UNSUPPORTED` or
   * `DEFECT`.
   */
  readonly code: string
}

/** Thrown and rejected with by {@link PhaseLeaseManager}. */
export declare class LeaseError extends DriftlockError {}

/** Thrown and rejected with by {@link PromptAttestationManager}. */
export declare class AttestationError extends DriftlockError {}

/** Thrown and rejected with by {@link PhaseLedger}. */
export declare class LedgerError extends DriftlockError {}

/** Rejected with by {@link withFileLock}. */
export declare class FileLockError extends DriftlockError {}

/** Thrown and rejected with by {@link TelemetryRecorder}. */
export declare class TelemetryError extends DriftlockError {}
