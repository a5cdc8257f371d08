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
