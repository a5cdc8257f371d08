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
