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
