/** A phase of a task. At run time any string is a phase; one that is not listed here is of severity `medium`. */
export type WorkPhase =
  | 'STRATEGIZE'
  | 'SPEC'
  | 'PLAN'
  | 'AFP_ALIGNMENT'
  | 'THINK'
  | 'IMPLEMENT'
  | 'VERIFY'
  | 'REVIEW'
  | 'PR'
  | 'MONITOR'

/** How much a drift matters. */
export type DriftSeverity = 'none' | 'low' | 'medium' | 'high'

/** What to do about where a workspace is. */
export interface WorkspaceOptions {
  /**
   * What to do if the workspace is on a network file system (NFS, SMB, 9p, FUSE and the like), where locks may keep
   * nobody out and SQLite's WAL may not work: `warn` logs a warning, once for each workspace and process; `refuse`
   * fails with the code `NETWORK_FILE_SYSTEM`. Default `warn`.
   */
  networkFileSystem?: 'warn' | 'refuse'
}

/**
 * What a change survives once its call has resolved.
 *
 * - `'process'`: the death of any process at any moment. A power cut or a crash of the system may take the changes
 *   that had not been written back, usually those of the last seconds. The disk is not waited for.
 * - `'sync'`: a power cut too. The disk is synced before a call resolves; calls on files that wait together share one
 *   sync. Costs 0.1 ms on a fast disk, 10 ms on a slow one. If a sync fails, so do the calls that waited for it, and
 *   what they wrote is written again before a later call is said to be safe.
 *
 * What was not acknowledged has happened or not, never by half. Managers of one workspace may differ; each change
 * is as safe as the manager that made it promises.
 */
export type Durability = 'process' | 'sync'

/** How and where things are stored. */
export interface StorageOptions extends WorkspaceOptions {
  /** What a change survives once its call has resolved. Default `'process'`. */
  durability?: Durability
}

/** Who holds leases, and for how long. */
export interface PhaseLeaseOptions extends StorageOptions {
  /** How long a lease lasts, in seconds; greater than 0, may be fractional. Default 300. */
  leaseDuration?: number
  /** How often a lease may be renewed; a whole number from 0 on. Default 10. */
  maxRenewals?: number
  /**
   * The holder's identity: two managers with one id are one holder. Not empty.
   * Default `<HOSTNAME or unknown>-<pid>-<8 hexadecimal digits>`.
   */
  agentId?: string
}

/**
 * What an agent is asked to do in one phase of a task.
 *
 * Hashed are phase, taskId, requirements, qualityGates, artifacts, contextSummary, personaHash, agentType and
 * modelVersion; the order within the three lists does not matter.
 */
export interface PromptSpec {
  /** The phase. It must not contain a colon. */
  phase: WorkPhase | (string & {})
  /** The task. */
  taskId: string
  /** When the prompt was made; neither hashed nor recorded. */
  timestamp: string
  /** What is required. */
  requirements: string[]
  /** What will be checked. */
  qualityGates: string[]
  /** What the work is on. */
  artifacts: string[]
  /** The context, of any length. */
  contextSummary: string
  /** A hash of the persona that the agent takes on. */
  personaHash?: string
  /** The persona in words. */
  personaSummary?: string
  /** The kind of agent. */
  agentType?: string
  /** The model and its version. */
  modelVersion?: string
  /** Ignored. */
  promptHash?: string
  /** Ignored. */
  promptPreview?: string
  /** Ignored. */
  promptSlots?: unknown
  /** Ignored. */
  variantId?: string
}

/** A record of the attestations log. Records of older versions lack the fields marked as optional. */
export interface PromptAttestation {
  /** Names the record (UUID). */
  attestation_id: string
  /** The task. */
  task_id: string
  /** The phase. */
  phase: WorkPhase
  /** The SHA-256 of the prompt. */
  prompt_hash: string
  /** The baseline that it was compared with. Absent at the first attestation. */
  baseline_hash?: string
  /** Whether the two differ. */
  drift_detected: boolean
  /** Both hashes, by their first 8 digits, if they differ. */
  drift_details?: string
  /** When the record was made (ISO 8601, milliseconds, Z). */
  timestamp: string
  /** The prompt's persona. */
  persona_hash?: string
  /** The persona in words. */
  persona_summary?: string
  /** Whether the persona differs from the baseline's. */
  persona_drift?: boolean
  /** The kind of agent. */
  agent_type?: string
  /** The model and its version. */
  prompt_version?: string
  /** How much the drift matters. */
  severity?: DriftSeverity
  /** The version of the baseline, from 1. */
  baseline_version?: number
}

/** What is noted when a baseline is reset. */
export interface BaselineUpdateOptions {
  /** Who resets it. */
  updatedBy?: string
  /** Why. */
  reason?: string
  /** A name for the new version. */
  versionTag?: string
  /** When (ISO 8601). Default now. */
  timestamp?: string
}

/** Further facts about a transition. */
export interface TransitionMetadata {
  /** The kind of agent. */
  agentType?: string
  /** How long the phase took, in milliseconds; finite. */
  durationMs?: number
  /** A hash of the agent's persona. */
  personaHash?: string
}

/** An entry of the ledger. */
export interface LedgerEntry {
  /** Names the entry (UUID). */
  entry_id: string
  /** When it was appended (ISO 8601, milliseconds, Z). */
  timestamp: string
  /** The `entry_hash` of the entry before; `'genesis'` in the first. */
  previous_hash: string
  /**
   * The SHA-256 of `JSON.stringify` of entry_id, timestamp, previous_hash, task_id, from_phase, to_phase,
   * evidence_artifacts, evidence_validated, agent_type and duration_ms, in this order, absent ones left out.
   */
  entry_hash: string
  /** The task. */
  task_id: string
  /** The phase that was left; null at the beginning. */
  from_phase: WorkPhase | null
  /** The phase that was entered. */
  to_phase: WorkPhase
  /** What shows that the work was done. */
  evidence_artifacts: string[]
  /** Whether somebody has checked it. */
  evidence_validated: boolean
  /** A hash of the agent's persona. */
  persona_hash?: string
  /** The kind of agent. */
  agent_type?: string
  /** How long the phase took, in milliseconds. */
  duration_ms?: number
  /** The SHA-256 of `JSON.stringify` of entry_hash and persona_hash, if there is a persona. */
  persona_seal?: string
}

/** For how long, and how often, to try to acquire a lock. The wait ends at whichever limit comes first. */
export interface LockOptions {
  /** The longest wait, in milliseconds from 0 on; 0 tries once. Default 5000. */
  timeout?: number
  /**
   * The time in milliseconds, from 0 on, that one of `maxRetries` stands for. A lock that becomes free is taken at
   * once, not at the end of a pause. Default 50.
   */
  retryDelay?: number
  /** The number of attempts; a whole number, 0 never acquires. Default 100. */
  maxRetries?: number
}

/**
 * Runs an operation while holding the lock on a file (see {@link acquireLock}), and releases the lock whether the
 * operation resolves or throws.
 *
 * @param lockPath the file to lock
 * @param operation what to do; not re-entrant: it must not ask for the same lock
 * @param options how long and how often to try
 * @returns what the operation returns or resolves to
 * @throws {FileLockError} `LOCK_NOT_ACQUIRED` with the message `Failed to acquire lock: <path>`; `INVALID_ARGUMENT`
 * for bad arguments
 */
export declare function withFileLock<T>(
  lockPath: string,
  operation: () => T | PromiseLike<T>,
  options?: LockOptions,
): Promise<T>

/** Which events are logged. */
export type LogLevel = 'info' | 'warning' | 'error' | 'silent'

/** Something worth telling a person. */
export interface LogEvent {
  /** How much it matters. */
  level: 'info' | 'warning' | 'error'
  /** What happened. */
  message: string
  /** When (ISO 8601, milliseconds, Z). */
  timestamp: string
  /** Further facts, such as `file`, `code` and `error`. */
  [field: string]: string
}

/**
 * Sends events to a function instead of standard error, where each is one line of JSON. It is called soon after the
 * event, from the event loop, and counts for all threads of the process.
 *
 * @param logger the function; null goes back to standard error
 * @throws {DriftlockError} `INVALID_ARGUMENT` for anything else
 */
export declare function setLogger(logger: ((event: LogEvent) => void) | null): void

/** The base of all errors of this package. */
export declare class DriftlockError extends Error {
  constructor(code: string, message: string, options?: ErrorOptions)
  /**
   * Names the kind of failure and stays the same from version to version: `INVALID_ARGUMENT`, `IO`, `DATABASE`,
   * `DATABASE_LOCKED`, `CLOSED`, `JOURNAL_LOCKED`, `LOCK_NOT_ACQUIRED`, `NETWORK_FILE_SYSTEM`, `PLATFORM_UNSUPPORTED` or
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
