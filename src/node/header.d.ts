/// <reference lib="esnext.disposable" />

declare global {
  /** Declared by `@types/node` or the library `dom`; where neither is used, its members are not known. */
  interface AbortSignal {}
}

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
  /**
   * What a change survives once its call has resolved. Default `'process'`. On a server it survives what the server's
   * settings promise, with `'sync'` at least the end of the server.
   */
  durability?: Durability
  /**
   * Where leases, attestations and the ledger are kept: `'sqlite'`, in the workspace's database and files, for agents of
   * one machine; or in a schema of a PostgreSQL database (13 or later), for agents of several, at a URL such as
   * `postgres://user:password@host:5432/database?schema=driftlock&sslmode=verify-full`. Without a password in it that of
   * the environment's `PGPASSWORD` counts. Those who name the same database and schema share all of it, whatever their
   * workspaces. Default: what the environment's `DRIFTLOCK_STORE` says, else `'sqlite'`.
   */
  store?: string
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
  /**
   * When another agent's lease is free: `'expiry'`, once it has ended, or `'dead-holder'`, also at once if its process is
   * known to be dead. A process that closed properly is not dead; of one on another machine, or that used old code,
   * nothing is known, and its leases last until they end. Default `'expiry'`.
   */
  takeover?: 'expiry' | 'dead-holder'
  /**
   * Whether a lease that this agent has already is given to it again, for its full duration and with the same token,
   * instead of being refused. Default false.
   */
  reentrant?: boolean
}

/** How the store of leases is: see {@link PhaseLeaseManager.health}. */
export type LeaseHealth = DatabaseHealth | ServerHealth

/** Proof of a lease: plain data that can be passed to another process, which writes on the holder's behalf. */
export interface Fence {
  /** The workspace whose leases it is about. */
  workspace: string
  /**
   * The server that has these leases, without credentials; absent if the workspace has them. A process that checks the
   * fence must know how to get in: by a {@link PhaseLeaseManager} that it has open there, or by `DRIFTLOCK_STORE`.
   */
  store?: string
  /** The task. */
  taskId: string
  /** The phase. */
  phase: WorkPhase | (string & {})
  /** The lease's fencing token. */
  token: number
  /** The lease's id. */
  leaseId: string
}

/** For what is written on behalf of a lease. */
export interface FenceOptions {
  /** The lease's fence. It must be for the same task and phase. */
  fence?: Fence
}

/** What is to be held. */
export interface LeaseKey {
  /** The task. */
  taskId: string
  /** The phase. */
  phase: WorkPhase | (string & {})
}

/** How to wait for a lease, and how to hold it. */
export interface HoldOptions {
  /** For how long to wait if it can't be had at once, in milliseconds from 0 on; Infinity is 100 years. Default 0. */
  waitMs?: number
  /** Ends the wait: the promise rejects with the signal's reason, and the place in the queue is given up. */
  signal?: AbortSignal
  /**
   * For how long it is held at most, in milliseconds, whatever renews it; `maxRenewals` does not count here.
   * Default 3,600,000 (an hour).
   */
  maxHoldMs?: number
  /**
   * If set, {@link HeldLease.progress} must be called again and again within so many milliseconds; else the lease is no
   * longer renewed and counts as lost, so that an agent that hangs doesn't hold it for ever. Not set by default.
   */
  progressMs?: number
}

/**
 * A lease that is held: a thread of the package renews it, whatever JavaScript is doing, until it is released, the
 * manager is closed, the process exits, or a bound of {@link HoldOptions} is reached. A process that dies no longer
 * renews it, and it ends by its duration (`leaseDuration`).
 *
 * It can be lost all the same: the store may fail for longer than the lease lasts, the process may be stopped, an
 * operator may release it. `signal` tells, before anybody else can get it if this process runs; only the fence protects
 * what is written by a process that didn't.
 */
export interface HeldLease extends AsyncDisposable {
  /** The task. */
  readonly taskId: string
  /** The phase. */
  readonly phase: string
  /** Names the lease (UUID). */
  readonly leaseId: string
  /** Proof of the lease, for {@link fencedWriteFile} and other fenced calls, also of other processes. */
  readonly fence: Readonly<Fence>
  /** When it ends unless it is renewed again (ISO 8601, milliseconds, Z); for people, since clocks can be set. */
  readonly expiresAt: string
  /**
   * Aborts when the lease is lost, with a {@link LeaseError} of the code `LEASE_LOST` as its reason: a tenth of the
   * lease's duration, at most a second, before it would end. Does not abort on release.
   */
  readonly signal: AbortSignal
  /** For how many milliseconds nobody else can get in, as far as this process knows; 0 once it is lost or released. */
  remainingMs(): number
  /** Says that the agent gets on: see {@link HoldOptions.progressMs}. */
  progress(): void
  /**
   * Gives it back. Resolves to whether it was still this holder's; a second time to false. Rejects with a
   * {@link LeaseError} (`DATABASE`, `DATABASE_LOCKED`, `SERVER`, `SERVER_UNREACHABLE`) if the store fails: it is then no
   * longer renewed.
   */
  release(): Promise<boolean>
  /**
   * Gives it back and holds another phase of the same task instead, in one step: this lease stays held while that one is
   * waited for, and if it can't be had. Rejects as {@link PhaseLeaseManager.hold}, and with `LEASE_LOST` if this lease is
   * no longer this holder's.
   */
  advance(phase: WorkPhase | (string & {}), options?: HoldOptions): Promise<HeldLease>
}

/** Several leases that are held, all acquired in one step. */
export interface HeldLeases extends AsyncDisposable {
  /** In the order in which they were asked for. */
  readonly leases: readonly HeldLease[]
  /** Aborts when one of them is lost. */
  readonly signal: AbortSignal
  /** Gives all of them back. Resolves to whether all were still this holder's. */
  release(): Promise<boolean>
}

/** Who releases somebody's lease, and why. */
export interface ForceReleaseOptions {
  /** Who. Not empty. */
  by: string
  /** Why. Not empty. */
  reason: string
}

/** An acquisition of this manager that was refused. */
export interface ContentionEvent {
  kind: 'contention'
  /** The task. */
  taskId: string
  /** The phase. */
  phase: string
  /** Who holds the lease or is next in the queue. */
  holder: string
  /** In how many whole seconds its lease ends. */
  expiresIn?: number
}

/** What listeners are called with, by the event's name. */
export interface LeaseEvents {
  /** An acquisition of this manager was refused. */
  contention: ContentionEvent
  /** A lease has ended without being released. */
  expiry: LeaseEvent
  /** The lease of a dead process was taken over. */
  takeover: LeaseEvent
  /** A lease was released by an operator. */
  'forced-release': LeaseEvent
}

export interface PhaseLeaseManager {
  /**
   * Acquires a lease and holds it: renewed by a thread of the package until it is released. `await using` releases it at
   * the end of the block.
   *
   * With `waitMs` it waits its turn, in the order in which all processes asked; a waiter whose process dies loses its
   * place. A lease that becomes free is kept 50 ms for each waiter in turn, and {@link PhaseLeaseManager.acquireLease}
   * does not overtake them: it is refused, with the first waiter as `holder`.
   *
   * Rejects with a {@link LeaseError}: `LEASE_HELD` if it can't be had in time, `INVALID_ARGUMENT`, `DATABASE`,
   * `DATABASE_LOCKED`, `SERVER`, `SERVER_UNREACHABLE`, `CLOSED`; with the signal's reason if that aborts.
   */
  hold(taskId: string, phase: WorkPhase | (string & {}), options?: HoldOptions): Promise<HeldLease>
  /**
   * Holds several leases, acquired in one step: all, or none, so that no two agents wait for each other whatever the
   * order. Rejects as {@link PhaseLeaseManager.hold}.
   *
   * @param keys at least one, none twice
   */
  holdMany(keys: readonly LeaseKey[], options?: HoldOptions): Promise<HeldLeases>
  /**
   * Calls a function for each event from now on, until the manager is closed: soon after it, for what happened in any
   * process (`contention`: of this manager only). Keeps no process alive.
   */
  on<K extends keyof LeaseEvents>(event: K, listener: (event: LeaseEvents[K]) => void): this
  /** Calls it no more. */
  off<K extends keyof LeaseEvents>(event: K, listener: (event: LeaseEvents[K]) => void): this
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
  /**
   * The fence of a lease of the phase that is entered. The entry is appended only if that lease is still the newest one,
   * expired or not, and no take-over fits in between; else the call rejects with the code `FENCED`. Not recorded.
   */
  fence?: Fence
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

/** What {@link metrics} answers: plain data that can be sent anywhere. Lists keep their order. */
export interface Metrics {
  /** What is counted. */
  counters: CounterFamily[]
  /** What is measured: durations, in seconds. */
  histograms: HistogramFamily[]
}

/** A counter with all of its series. */
export interface CounterFamily {
  /** `driftlock_process_…_total`. */
  name: string
  /** What it counts, in one sentence. */
  help: string
  /** One for each combination of the labels' values, which come from closed lists; what is on no list is `other`. */
  series: CounterSeries[]
}

/** One series of a counter. */
export interface CounterSeries {
  /** What tells it from the others, such as `{ result: 'acquired' }`. */
  labels: Record<string, string>
  /** How many there were since the process started; it never falls. */
  value: number
}

/** A histogram with all of its series. */
export interface HistogramFamily {
  /** `driftlock_process_…_seconds`. */
  name: string
  /** What it measures, in one sentence. */
  help: string
  /** One for each combination of the labels' values. */
  series: HistogramSeries[]
}

/** One series of a histogram. */
export interface HistogramSeries {
  /** What tells it from the others, such as `{ operation: 'acquire' }`. */
  labels: Record<string, string>
  /** By rising limits. What is above the last one is in `count` alone. */
  buckets: HistogramBucket[]
  /** All durations together, in seconds. */
  sum: number
  /** How many durations there were. */
  count: number
}

/** How many durations were at most as long as a limit: those of the buckets before included. */
export interface HistogramBucket {
  /** The limit, in seconds. */
  le: number
  /** How many there were. */
  count: number
}

/**
 * {@link metrics} in Prometheus' text format, to be served as `text/plain; version=0.0.4`. The names begin with
 * `driftlock_process_`, apart from the totals of all processes that `driftlock exporter` serves: those add up, these
 * are about one process.
 */
export declare function metricsText(): string

/** For {@link registerOpenTelemetry}. */
export interface OpenTelemetryOptions {
  /**
   * Where the instruments are registered: a `MeterProvider` of OpenTelemetry's. Default the global one of
   * `@opentelemetry/api`, which has to be set before.
   */
  meterProvider?: { getMeter(name: string, version?: string): unknown }
}

/** What was registered with OpenTelemetry. */
export interface OpenTelemetryRegistration {
  /** Ends the observation: the instruments tell nothing new. May be called again. */
  stop(): void
}

/**
 * Shows {@link metrics} to OpenTelemetry, as observable counters that are read whenever a reader collects: of each
 * counter one by its name without `_total`, of each histogram `<name>_count` and `<name>_sum` (OpenTelemetry has no
 * observable histogram, so the buckets are only in {@link metrics}). The labels are attributes.
 *
 * The figures are those of the whole process: register in one of its threads only. Needs the package
 * `@opentelemetry/api` unless a meter provider is given.
 *
 * @throws {DriftlockError} `OPENTELEMETRY_MISSING` if `@opentelemetry/api` is not installed; `INVALID_ARGUMENT` if
 * `meterProvider` is none
 */
export declare function registerOpenTelemetry(options?: OpenTelemetryOptions): OpenTelemetryRegistration
