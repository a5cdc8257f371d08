// How long operations took: recorded by the agents, summed up by the report.

/** Durations in milliseconds, by operation. */
export class Timings {
  /** @type {Map<string, number[]>} */
  samples = new Map()

  /**
   * @param {string} operation
   * @param {number} milliseconds
   */
  add(operation, milliseconds) {
    const list = this.samples.get(operation)
    if (list) list.push(milliseconds)
    else this.samples.set(operation, [milliseconds])
  }

  /**
   * Runs an operation and records how long its answer took.
   * @template T
   * @param {string} operation
   * @param {() => T | Promise<T>} run
   * @returns {Promise<T>}
   */
  async measure(operation, run) {
    const start = performance.now()
    const answer = await run()
    this.add(operation, performance.now() - start)
    return answer
  }

  /** @param {Map<string, number[]>} samples those of another process */
  merge(samples) {
    for (const [operation, list] of samples) {
      this.samples.set(operation, (this.samples.get(operation) ?? []).concat(list))
    }
  }

  /** @returns {{operation: string, count: number, p50: number, p95: number, p99: number, max: number}[]} */
  summary() {
    return [...this.samples].map(([operation, list]) => {
      const sorted = Float64Array.from(list).sort()
      const [p50, p95, p99, max] = [50, 95, 99, 100].map((percent) => percentile(sorted, percent))
      return { operation, count: sorted.length, p50, p95, p99, max }
    })
  }
}

/**
 * By nearest rank: the smallest value that `percent` of all values do not exceed.
 * @param {ArrayLike<number>} sorted
 * @param {number} percent
 */
export function percentile(sorted, percent) {
  return sorted[Math.max(0, Math.ceil((percent / 100) * sorted.length) - 1)]
}

/**
 * Three significant digits, in the unit that suits.
 * @param {number} milliseconds
 */
export function formatDuration(milliseconds) {
  const digits = (/** @type {number} */ value) => value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0)
  if (milliseconds < 1) return `${digits(milliseconds * 1_000)} µs`
  return milliseconds < 1_000 ? `${digits(milliseconds)} ms` : `${digits(milliseconds / 1_000)} s`
}
