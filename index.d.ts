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
   * process (`contention`: of this manager only). Keeps no process alive. With a server, "now" is
   * its answer to a first question, for which this manager's next calls wait.
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

/**
 * Phase leases: at most one agent at a time in each phase of a task, among all processes of a machine that use the
 * workspace.
 *
 * Leases are kept in `<workspaceRoot>/state/orchestrator.db` (SQLite, WAL, `synchronous = NORMAL`), which may also be
 * used by other code; with the option `store` in a schema of a PostgreSQL database, for agents on several machines. The
 * calls are the same there, but those that answer at once can't ask a server: {@link PhaseLeaseManager.holdsLease}
 * answers from what this process knows, {@link PhaseLeaseManager.getLease} throws `WOULD_BLOCK`.
 *
 * A lease survives the death of its holder's process and then ends by its duration. A power cut
 * ends all leases, whatever `durability` says: none of the boot before keeps anybody out, and no fencing token is
 * repeated. Without `durability: 'sync'` the last changes before it may be lost, with it what was acknowledged is
 * in the database. Calls of one manager take effect in the order in which they are made, also if they are not
 * awaited.
 *
 * A lease can end while its holder still works. Only a fencing token protects what the holder writes then.
 */
export declare class PhaseLeaseManager {
  /**
   * Gives one lease back and acquires another in one step: both, or nothing is changed. The answer is that of
   * {@link PhaseLeaseManager.acquireLease}, or `'Lease not held by this agent'` if `from` isn't.
   *
   * Rejects with a {@link LeaseError} (`INVALID_ARGUMENT`) for bad arguments only.
   */
  advanceLease(taskId: string, from: WorkPhase | (string & {}), to: WorkPhase | (string & {})): Promise<LeaseAcquisitionResult>
  /**
   * Resolves if the fence's lease is still the newest one of its task and phase, expired or not. It may not be any
   * more when the answer arrives: what must not happen after a take-over belongs into a fenced write.
   *
   * Rejects with a {@link LeaseError}: `FENCED`, with the newer holder's name, if another lease has been acquired
   * since or this one was released; `INVALID_ARGUMENT`, `DATABASE`, `DATABASE_LOCKED`, `CLOSED`.
   */
  checkFence(fence: Fence): Promise<void>
  /**
   * All leases of the workspace, those that have ended too, by task and phase.
   *
   * Rejects with a {@link LeaseError}: `DATABASE` if the store fails, `CLOSED` after `close()`.
   */
  listLeases(): Promise<LeaseListing[]>
  /**
   * Ends a lease, whoever's it is, for an operator who knows better. Its holder's `signal` aborts, if it has one, and
   * its fence is refused from then on. Who did it and why is kept in the workspace's database (the last 10,000) and
   * told by {@link PhaseLeaseManager.listLeaseEvents}. Resolves to the lease, or to null if there was none.
   *
   * Rejects with a {@link LeaseError}: `INVALID_ARGUMENT`, `DATABASE`, `DATABASE_LOCKED`, `CLOSED`.
   */
  forceRelease(taskId: string, phase: WorkPhase | (string & {}), options: ForceReleaseOptions): Promise<PhaseLease | null>
  /**
   * What happened to leases without their holders' doing, oldest first: the last 10,000 of each kind at least. Of the
   * leases that end, those are recorded that somebody takes over.
   *
   * Rejects with a {@link LeaseError}: `DATABASE` if the store fails, `CLOSED` after `close()`.
   */
  listLeaseEvents(): Promise<LeaseEvent[]>
  /**
   * Opens the workspace's database, and makes it, its table and its folder where they are absent. With a server as its
   * store it connects to nothing: the first call does, and makes the schema where it is absent.
   *
   * @param workspaceRoot the workspace's folder, the same for all agents (see {@link resolveWorkspace})
   * @param options who the holder is, how long its leases last, and what they survive
   * @throws {LeaseError} `INVALID_ARGUMENT` for bad arguments, before anything is touched; `IO` or `DATABASE` if
   * the database can't be opened, `DATABASE_LOCKED` if other processes keep it busy; `SERVER` if the certificates to
   * trust can't be read; `NETWORK_FILE_SYSTEM` where `networkFileSystem: 'refuse'` says so, before anything is touched
   */
  constructor(workspaceRoot: string, options?: PhaseLeaseOptions)
  /** The workspace's folder, as an absolute path. */
  get workspace(): string
  /** Where leases are kept: `'sqlite'`, or the server's address, database and schema, without credentials. */
  get store(): string
  /**
   * Acquires the lease of a task and phase, unless somebody holds it; this agent too is refused while it holds it.
   * A lease that has ended is anybody's to acquire.
   *
   * A failure of the store is an answer (`'Internal error: …'`), also after `close()`. While another process holds
   * the database's write lock the call waits, off the JavaScript thread, for up to 5 s. Rejects with a
   * {@link LeaseError} (`INVALID_ARGUMENT`) for arguments of a wrong type only.
   */
  acquireLease(taskId: string, phase: WorkPhase | (string & {})): Promise<LeaseAcquisitionResult>
  /**
   * Prolongs the lease that this agent holds: it ends one duration from now. One that has ended can be renewed as
   * long as nobody else has acquired it.
   *
   * A failure of the store is an answer. Rejects with a {@link LeaseError} (`INVALID_ARGUMENT`) for arguments of a
   * wrong type only.
   */
  renewLease(taskId: string, phase: WorkPhase | (string & {})): Promise<LeaseRenewalResult>
  /**
   * Gives a lease back. Resolves to true if this agent held it, also if it had ended; to false if not, or if the
   * store failed (the log says so). Rejects with a {@link LeaseError} (`INVALID_ARGUMENT`) for arguments of a
   * wrong type only.
   */
  releaseLease(taskId: string, phase: WorkPhase | (string & {})): Promise<boolean>
  /** Gives back all leases of this agent. Resolves to their number; to 0 if the store failed (the log says so). */
  releaseAllLeases(): Promise<number>
  /**
   * Whether this agent holds the lease now: it has acquired it, and it has not ended. False if the store fails
   * (the log says so) and for arguments of a wrong type.
   *
   * With a server as its store it asks nobody: it answers whether this process was granted the lease, or renewed it,
   * so short a time ago that nobody else can have it. What another process of the same agent id holds it does not know,
   * and of a forced release it learns with the next renewal; {@link PhaseLeaseManager.holdsLeaseAsync} asks the server.
   */
  holdsLease(taskId: string, phase: WorkPhase | (string & {})): boolean
  /**
   * The lease of a task and phase, whoever holds it and also if it has ended; null if there is none, if the store
   * fails (the log says so) and for arguments of a wrong type.
   *
   * @throws {LeaseError} `WOULD_BLOCK` with a server as its store: {@link PhaseLeaseManager.getLeaseAsync} asks it
   */
  getLease(taskId: string, phase: WorkPhase | (string & {})): PhaseLease | null
  /**
   * {@link PhaseLeaseManager.holdsLease}, after all calls made before it, and never on the JavaScript thread if it
   * would have to wait. Rejects with a {@link LeaseError} (`INVALID_ARGUMENT`) for arguments of a wrong type.
   */
  holdsLeaseAsync(taskId: string, phase: WorkPhase | (string & {})): Promise<boolean>
  /**
   * {@link PhaseLeaseManager.getLease}, after all calls made before it, and never on the JavaScript thread if it
   * would have to wait. Rejects with a {@link LeaseError} (`INVALID_ARGUMENT`) for arguments of a wrong type.
   */
  getLeaseAsync(taskId: string, phase: WorkPhase | (string & {})): Promise<PhaseLease | null>
  /** The state of all leases of the workspace; zeros without any, and if the store fails (the log says so). */
  getStats(): Promise<LeaseStats>
  /**
   * How the store is and what can be promised where it is, for those who operate it. Rejects with a
   * {@link LeaseError}: `CLOSED` after `close()`, `IO` or `DATABASE` if the database can't be read, `SERVER` or
   * `SERVER_UNREACHABLE` if the server can't.
   */
  health(): Promise<LeaseHealth>
  /**
   * Lets go of the database; the leases stay. May be called again. Calls made before it that were not awaited
   * still take effect, unless another process keeps the database busy; calls after it answer as on a failure of
   * the store. Once it returns, nothing is written below the workspace any more. A server that does not answer is
   * waited for half a second at most; what it was asked before may still take effect.
   */
  close(): void
}

/**
 * The history of phase transitions, each entry chained to the one before it by its hash, so that a change is seen.
 *
 * It is kept in `<workspaceRoot>/state/process/ledger.jsonl`, one entry a line. Any number of processes may append:
 * the chain stays whole. An entry whose append has resolved survives the death of the process; a power cut it survives
 * once the operating system has written it back, or at once, and all entries before it, with `durability: 'sync'`.
 *
 * With a server as its store there is no file. Calls that reject then do so with `SERVER` and `SERVER_UNREACHABLE`;
 * after the latter an entry may be there or not.
 */
export declare class PhaseLedger {
  /**
   * The ledger of a workspace. Does no I/O.
   *
   * @param workspaceRoot the workspace's folder, the same for all agents (see {@link resolveWorkspace})
   * @param options what acknowledged entries survive, and what to do where locks do not exclude
   * @throws {LedgerError} `INVALID_ARGUMENT` for bad arguments
   */
  constructor(workspaceRoot: string, options?: StorageOptions)
  /**
   * Makes the folder of the ledger. Rejects with a {@link LedgerError}: `IO` if that can't be done,
   * `NETWORK_FILE_SYSTEM` where `networkFileSystem: 'refuse'` says so, before anything is touched.
   */
  initialize(): Promise<void>
  /** Whether there is a ledger file. */
  exists(): Promise<boolean>
  /**
   * Appends the transition of a task from one phase to the next.
   *
   * Rejects with a {@link LedgerError}: `INVALID_ARGUMENT` for arguments of a wrong type; `IO` or `JOURNAL_LOCKED`
   * if it can't be written, and then nothing was; with `durability: 'sync'` also `IO` if it was written and can't be
   * synced, and then it may be there or not.
   *
   * @param fromPhase the phase that is left, or null at the beginning
   * @param toPhase the phase that is entered
   * @param evidenceArtifacts what shows that the work was done
   * @param evidenceValidated whether somebody has checked it
   * @param metadata further facts about the transition
   */
  appendTransition(taskId: string, fromPhase: WorkPhase | (string & {}) | null, toPhase: WorkPhase | (string & {}), evidenceArtifacts: string[], evidenceValidated: boolean, metadata?: TransitionMetadata): Promise<LedgerEntry>
  /**
   * Reads the whole file and checks each entry's hash and its place in the chain. Does not reject: what keeps the
   * file from being read is told in `error`.
   */
  verify(): Promise<VerificationResult>
  /** The entries of a task, oldest first; empty if there are none or the ledger can't be read (the log says so). */
  getTaskHistory(taskId: string): Promise<LedgerEntry[]>
  /** The phase that a task entered last; null if it entered none or the ledger can't be read (the log says so). */
  getCurrentPhase(taskId: string): Promise<WorkPhase | null>
  /** What is in the ledger; zeros if it can't be read (the log says so). */
  getStats(): Promise<LedgerStats>
}

/**
 * Records which prompt an agent got in each phase of a task, and tells whether it has drifted from its baseline.
 *
 * The first prompt of a task and phase becomes the baseline. Everything is kept in three files below
 * `<workspaceRoot>/state/process/`: the log `prompt_attestations.jsonl`, the baselines `prompt_baselines.json` and
 * the log of resets `prompt_baseline_updates.jsonl`. They are current when a call resolves, whatever other
 * processes do at the same time. What was acknowledged survives the death of the process; a power cut it survives
 * once the operating system has written it back, or at once with `durability: 'sync'`.
 *
 * With a server as its store there are no files. Failures then have the codes `SERVER` and `SERVER_UNREACHABLE`, also in
 * the answers to `attest`, which waits for a silent server for 10 s.
 */
export declare class PromptAttestationManager {
  /**
   * A manager for a workspace. Does no I/O.
   *
   * @param workspaceRoot the workspace's folder, the same for all agents (see {@link resolveWorkspace})
   * @param options what acknowledged changes survive, and what to do where locks do not exclude
   * @throws {AttestationError} `INVALID_ARGUMENT` for bad arguments
   */
  constructor(workspaceRoot: string, options?: StorageOptions)
  /**
   * Makes `state/process/`, an empty baselines file and an empty log of resets where they are absent.
   *
   * Rejects with an {@link AttestationError}: `IO` if that can't be done, `NETWORK_FILE_SYSTEM` where
   * `networkFileSystem: 'refuse'` says so, before anything is touched.
   */
  initialize(): Promise<void>
  /**
   * Compares a prompt with the baseline of its task and phase, and records that.
   *
   * Never rejects, so that it never blocks an agent. What can't be hashed (a list is missing, a number stands for
   * a string, the phase has a colon) is not attested: `currentHash` is then empty. If something can't be read or
   * written the answer holds what is still known, and `error` says what went wrong.
   *
   * With a fence it takes effect only if the fence's lease is still the newest one of its task and phase, expired or
   * not, and no take-over fits in between. It then rejects with an {@link AttestationError} instead of recording
   * anything: `FENCED`, with the newer holder's name; `INVALID_ARGUMENT` for a fence of another task or phase;
   * `DATABASE`, `DATABASE_LOCKED` if the fence can't be checked.
   *
   * @param spec the prompt; it is left as it is
   * @param options a fence, if the attestation is for a lease that is held
   */
  attest(spec: PromptSpec, options?: FenceOptions): Promise<DriftAnalysis>
  /**
   * The records of a task as they stand in the log, oldest first; empty if there are none. Lines of the log that
   * can't be read are left out (`getDriftStats().damagedLines` counts them).
   *
   * Rejects with an {@link AttestationError}: `INVALID_ARGUMENT` if the task is no string, `IO` if the log can't
   * be read.
   */
  getAttestationHistory(taskId: string): Promise<PromptAttestation[]>
  /**
   * How often prompts have drifted, over all records; zeros without any.
   *
   * Rejects with an {@link AttestationError} (`IO`) if the log can't be read.
   */
  getDriftStats(): Promise<DriftStats>
  /**
   * Sets the baseline of a task and phase, whatever it was: its version is one more than before, or 1, and it is
   * no longer for a persona. The log of resets gets a line.
   *
   * Rejects with an {@link AttestationError}: `INVALID_ARGUMENT` for arguments of a wrong type, an empty hash or a
   * phase with a colon; `IO` or `JOURNAL_LOCKED` if it can't be written.
   *
   * @param newHash the new baseline, usually a `currentHash` that `attest` has given
   */
  resetBaseline(taskId: string, phase: WorkPhase | (string & {}), newHash: string, options?: BaselineUpdateOptions): Promise<void>
}

/**
 * Records what happens in a workspace, for monitoring: counters in `<workspaceRoot>/state/telemetry/counters.jsonl`,
 * one a line.
 *
 * Any number of processes and threads may record, other programs may append to the file, and it may be rotated by
 * renaming it: each acknowledged line stands there whole and once.
 */
export declare class TelemetryRecorder {
  /**
   * The recorder of a workspace. Does no I/O.
   *
   * @param workspaceRoot the workspace's folder, the same for all agents (see {@link resolveWorkspace})
   * @throws {TelemetryError} `INVALID_ARGUMENT` for bad arguments
   */
  constructor(workspaceRoot: string)
  /**
   * Appends a line `{"timestamp", "counter", "value", "metadata"}`, making the file and its folders if they are absent.
   * Lines stand in the order of the calls, also of those that are not awaited.
   *
   * A line whose call has resolved survives the death of the process; a power cut it survives once the operating
   * system has written it back.
   *
   * Rejects with a {@link TelemetryError}: `INVALID_ARGUMENT` for bad arguments, before anything is touched; `IO` or
   * `JOURNAL_LOCKED` if it can't be written.
   *
   * @param name what is counted, not empty; the exporter shows `evidence_gate_passed`, `evidence_gate_failed`,
   * `phase_validations_passed`, `phase_validations_failed`, `phase_skips_attempted`, `phase_lease_contention` and
   * `prompt_drift_detected` by name, all others together
   * @param value by how much the count rises: a finite number from 0 on. Default 1.
   * @param metadata facts for those who read the file: an object, written as `JSON.stringify` does. Default `{}`.
   */
  recordCounter(name: string, value?: number, metadata?: Record<string, unknown>): Promise<void>
}

/**
 * Locks a file: at most one holder among all processes of this machine that use this function, until
 * {@link releaseLock} or the end of the process.
 *
 * The operating system keeps the lock (`flock`), so a holder that dies frees it at once and a living holder is never
 * robbed of it, however long it takes. Callers of one process are served in the order of their calls. Not
 * re-entrant: who holds a lock and asks for it again waits in vain. While held, the file contains
 * `{pid, hostname, acquiredAt}` as JSON; afterwards it is empty. Missing folders are made.
 *
 * Locks do not exclude between machines on network file systems.
 *
 * @param lockPath the file to lock
 * @param options how long and how often to try
 * @returns true if the lock was acquired; false if not, for whatever reason, bad arguments included (a warning in
 * the log says which)
 */
export declare function acquireLock(lockPath: string, options?: LockOptions): Promise<boolean>

/** How a workspace's database is, for those who operate it. */
export interface DatabaseHealth {
  /** Where leases are kept. */
  store: 'sqlite'
  /** The database file. */
  databasePath: string
  /** Its size in bytes, without its log. */
  databaseBytes: number
  /** The size of its write-ahead log in bytes. One that keeps growing has a reader somewhere that doesn't end. */
  logBytes: number
  /** Whether it is in WAL mode, as it should be. */
  wal: boolean
  /** Whether the table of leases was made by the code before driftlock. It works, but each change takes longer. */
  oldSchema: boolean
  /** What leases go by: the time since the machine started, or the wall clock, which can be set. */
  clock: 'boot' | 'wall'
  /** Where the database is. */
  fileSystem: FileSystemHealth
}

/** The answer to an attestation. */
export interface DriftAnalysis {
  /** Whether the prompt differs from its baseline. */
  hasDrift: boolean
  /** The baseline that it was compared with. Absent at the first attestation. */
  baselineHash?: string
  /** The SHA-256 of the prompt, 64 lower-case hexadecimal digits. Empty if the prompt can't be hashed. */
  currentHash: string
  /** Both hashes, by their first 8 digits, if there is a drift. */
  driftDetails?: string
  /**
   * How much the drift matters, by its phase: `high` in VERIFY, REVIEW and MONITOR, `low` in STRATEGIZE, SPEC,
   * PLAN and AFP_ALIGNMENT, else `medium`; `none` without drift.
   */
  severity: DriftSeverity
  /** What to do about it. Absent if the prompt can't be hashed. */
  recommendation?: string
  /** Whether the prompt and its baseline are both for a persona, and for different ones. */
  personaDrift: boolean
  /** Both personas, by the first 16 digits of their hashes, if they differ. */
  personaDetails?: string
  /**
   * What went wrong, if anything did: an attestation never blocks an agent, so the answer then holds what is still
   * known. The log has a warning too.
   */
  error?: string
  /** The stable code of what went wrong. */
  errorCode?: string
}

/** How often prompts have drifted, over all records of the log. */
export interface DriftStats {
  /** All attestations. */
  totalAttestations: number
  /** Those that found a drift. */
  driftDetections: number
  /** The share of attestations that found a drift, from 0 to 1; 0 without any. */
  driftRate: number
  /** How many there were of each severity that was seen; `unknown` for older records of a drift. */
  severityCounts: Record<string, number>
  /** Lines of the log that can't be read and are not counted above. Absent if there are none. */
  damagedLines?: number
}

/**
 * Writes a file if the fence's lease is still the newest one of its task and phase, expired or not; else nothing
 * happens. The content goes to a file beside it first, which then takes its place while no lease can be granted, so
 * that no take-over fits between the check and the write, and readers see the old content or the new one. A link at
 * the path is replaced, not followed; the mode of an existing file stays.
 *
 * Rejects with a {@link LeaseError}: `FENCED`, with the newer holder's name, if another lease has been acquired since,
 * or this one was released; `INVALID_ARGUMENT` for bad arguments; `IO` if the file can't be written; `DATABASE`,
 * `DATABASE_LOCKED` if the fence can't be checked. Then nothing was written.
 *
 * A process without an open {@link PhaseLeaseManager} on the workspace opens its database for each call.
 *
 * @param path the file; its folder must be there
 * @param data the whole content
 * @param fence a held lease's `fence`
 */
export declare function fencedWriteFile(path: string, data: string | Uint8Array, fence: Fence): Promise<void>

/** The file system that a path is on. */
export interface FileSystemHealth {
  /** Its name, such as `ext4` or `nfs`; a number where it is not known. */
  name: string
  /** Whether it is this machine's; `overlay` is what containers have, `network` includes FUSE. */
  kind: 'local' | 'overlay' | 'network' | 'unknown'
  /** Whether locks exclude among all who use it. Absent if that is not known. */
  locksExclude?: boolean
}

/** The answer to an attempt to acquire a lease. */
export interface LeaseAcquisitionResult {
  /** Whether the caller has the lease now. */
  acquired: boolean
  /** The lease, if it was acquired. */
  lease?: PhaseLease
  /** Why it was not acquired: `'Lease already held by another agent'` or `'Internal error: …'`. */
  reason?: string
  /** Who holds it, if somebody does. */
  holder?: string
  /** In how many whole seconds the holder's lease ends, rounded down, never negative. */
  expiresIn?: number
}

/** Something that happened to a lease and that its holder did not do. */
export interface LeaseEvent {
  /** Rises from event to event. */
  id: number
  /** `'expiry'`: it ended without being released; `'takeover'`: its process was dead; `'forced-release'`. */
  kind: 'expiry' | 'takeover' | 'forced-release'
  /** When (ISO 8601, milliseconds, Z). */
  at: string
  /** The task. */
  taskId: string
  /** The phase. */
  phase: string
  /** Who held the lease. */
  agentId: string
  /** Its fencing token. */
  fencingToken?: number
  /** Who took it over, if somebody has, or released it. */
  by?: string
  /** Why it was released. */
  reason?: string
}

/** A lease as {@link PhaseLeaseManager.listLeases} tells of it. */
export interface LeaseListing {
  /** The lease. */
  lease: PhaseLease
  /** The process that acquired or renewed it last; absent if old code did. */
  pid?: number
  /** That process's host, by its name. */
  host?: string
  /** For how long it has been held, in milliseconds. */
  heldMs: number
  /** How long it still lasts unless it is renewed, in milliseconds; 0 once it has ended. */
  remainingMs: number
  /** How many wait for it. */
  waiters: number
}

/** The answer to an attempt to renew a lease. */
export interface LeaseRenewalResult {
  /** Whether the lease was renewed. */
  renewed: boolean
  /** When it ends now (ISO 8601, milliseconds, Z), if it was renewed. */
  expiresAt?: string
  /**
   * Why it was not renewed: `'Lease not held by this agent'`, `'Max renewals (N) exceeded'` or
   * `'Internal error: …'`.
   */
  reason?: string
}

/** The state of all leases of a workspace. */
export interface LeaseStats {
  /** The leases in the table. */
  totalLeases: number
  /** Those of them that have not ended. */
  activeLeases: number
  /** Those of them that have ended and that nobody has taken over or released. */
  expiredLeases: number
  /** The mean duration, in seconds, of all holds that are over; 0 if none is. It may lag by a second. */
  averageHoldTime: number
  /** The highest number of renewals among the leases in the table. */
  maxRenewals: number
  /** How many acquisitions, of all processes, were refused because the lease was held. It may lag by a second. */
  contentionEvents: number
}

/** What is in a ledger. */
export interface LedgerStats {
  /** All entries. */
  totalEntries: number
  /** The number of different tasks. */
  uniqueTasks: number
  /** The first entry's timestamp (ISO 8601). Absent if there is none. */
  oldestEntry?: string
  /** The last entry's timestamp (ISO 8601). Absent if there is none. */
  newestEntry?: string
  /** The last entry's hash; `'genesis'` if there is none. */
  lastHash: string
  /** Lines that can't be read and are not counted above. Absent if there are none. */
  damagedLines?: number
}

/**
 * What this process has counted and measured since it started: in all of its threads, over all workspaces. Answers at
 * once, reads no file and can't fail. Every series is there from the start, at 0, and none is ever removed; a figure
 * only grows. What ends with a process is only here; the totals of all processes are in the workspace.
 */
export declare function metrics(): Metrics

/** The right of one agent to work on a phase of a task. */
export interface PhaseLease {
  /** Names this lease (UUID). It stays the same when the lease is renewed. */
  lease_id: string
  /** The task. */
  task_id: string
  /** The phase. */
  phase: WorkPhase
  /** The holder. */
  agent_id: string
  /** When it was acquired (ISO 8601, milliseconds, Z). */
  acquired_at: string
  /**
   * When it ends unless it is renewed (ISO 8601, milliseconds, Z). By the wall clock at the time it was written;
   * what counts is the time that passes, so setting the clock neither ends nor prolongs a lease.
   */
  expires_at: string
  /** How often it was renewed. */
  renewed_count: number
  /**
   * A whole number that is higher than that of every earlier lease of this task and phase, over releases,
   * expiries, restarts, clock changes and power cuts. Whoever guards a resource can refuse a holder whose token
   * is not the highest it has seen (Kleppmann, "How to do distributed locking", 2016).
   */
  fencing_token: number
}

/**
 * Releases a lock that this process holds. No error if it holds none; the locks of other processes stay.
 *
 * @param lockPath the file that was locked
 */
export declare function releaseLock(lockPath: string): Promise<void>

/**
 * Finds the folder that agents in different git worktrees of one repository have in common. Agents whose workspaces
 * have different roots do not exclude each other: give this one to all of them.
 *
 * From any folder of the main worktree or of a linked one it is the main worktree's root. For the worktrees of a bare
 * repository it is the repository's folder, or the folder that this lies in if a `.git` file there names it
 * (`gitdir: ./.bare`). A worktree whose git directory is elsewhere and does not note where the worktree is (`git init
 * --separate-git-dir`) has that directory, since that is all that its linked worktrees can find. A submodule is a
 * repository of its own: it has its own root, and each worktree of the repository around it has another copy of it.
 * Where there is no repository, the folder itself is returned.
 *
 * Reads git's files and does not run git; its environment variables, such as `GIT_DIR`, don't count. Creates nothing.
 *
 * @param path a folder that exists, or a file, which stands for its folder
 * @returns an absolute path without symbolic links: the same for all who ask
 * @throws {DriftlockError} `INVALID_ARGUMENT` if it is not a path; `IO` if it does not exist, or if a file of git's
 * can't be read or does not lead to a repository, as in a worktree whose repository was removed or moved
 */
export declare function resolveWorkspace(path: string): string

/** How a schema on a PostgreSQL server is, for those who operate it. */
export interface ServerHealth {
  /** Where leases are kept. */
  store: 'postgres'
  /** The server's address, database and schema, without credentials. */
  server: string
  /** The server's version, in its own words. */
  serverVersion: string
  /** The version of the part of the schema that leases are in. */
  schemaVersion: number
  /** The size of the schema's tables and indexes in bytes. */
  databaseBytes: number
  /** What leases go by: the server's wall clock. Setting that ends or prolongs leases. */
  clock: 'server'
  /**
   * By how many milliseconds the server's clock is ahead of this machine's, within the time that one request takes.
   * Leases don't depend on it.
   */
  clockAheadMs: number
}

/**
 * Sets which events are logged: those of this level and above. Overrides the environment variable `DRIFTLOCK_LOG`.
 *
 * @param level `'info'`, `'warning'` (the default), `'error'` or `'silent'`
 * @throws {DriftlockError} `INVALID_ARGUMENT` for anything else
 */
export declare function setLogLevel(level: LogLevel): void

/** What the check of a ledger found. */
export interface VerificationResult {
  /** Whether the ledger is whole. No file is as good as an empty one. */
  valid: boolean
  /** The number of entries; 0 if a line is not JSON or the file can't be read. */
  entries_checked: number
  /** The first entry, counted from 0, that does not follow the one before it. The check ends there. */
  broken_chain_at?: number
  /** The `entry_id`s of entries whose content is not what their hashes say. */
  tampered_entries?: string[]
  /** Why the ledger could not be read to its end. */
  error?: string
}
