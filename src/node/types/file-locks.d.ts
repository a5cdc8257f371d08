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
