// Taking the time of one operation, for all candidates in the same minutes.

import { summarize } from './summary.mjs'

/**
 * An operation on a workspace that was prepared for it.
 * @typedef {object} Operation
 * @property {(i: number) => any} run does it; its answer, awaited, is what is timed
 * @property {(answer: any, i: number) => boolean} succeeded whether the answer says that it was done
 * @property {(i: number) => unknown} [before] what has to be so before each time, untimed
 * @property {() => unknown} [close]
 */

/**
 * @typedef {object} Amount
 * @property {number} iterations
 * @property {number} warmUp
 * @property {number} [budget] milliseconds after which a slow candidate has been measured often enough
 */

/** Candidates take turns, so that what else the machine does hits all of them. */
const ROUNDS = 10
/** A candidate that is beyond its budget gets at least so many. */
const LEAST = 3

/**
 * @param {Record<string, Operation>} operations by candidate
 * @param {Amount} amount
 * @param {() => void} [advance] called after each round
 * @returns {Promise<Record<string, import('./summary.mjs').Summary>>}
 */
export async function measure(operations, amount, advance = () => {}) {
  const series = Object.entries(operations).map(([name, operation]) => new Series(name, operation, amount))
  try {
    for (const one of series) await one.warmUp()
    for (let round = 1; round <= ROUNDS; round++) {
      for (const one of series) await one.continueTo(Math.ceil((amount.iterations * round) / ROUNDS))
      advance()
    }
    return Object.fromEntries(series.map((one) => [one.name, summarize(one.durations)]))
  } finally {
    for (const one of series) await one.operation.close?.()
  }
}

class Series {
  /** @type {number[]} */
  durations = []
  #next = 0
  #spent = 0

  /**
   * @param {string} name
   * @param {Operation} operation
   * @param {Amount} amount
   */
  constructor(name, operation, amount) {
    this.name = name
    this.operation = operation
    this.amount = amount
  }

  async warmUp() {
    const { warmUp } = this.amount
    while (this.#next < warmUp && !(this.#next >= LEAST && this.#isOverBudget(1 / 4))) await this.#once()
    this.durations = []
    this.#spent = 0
  }

  /** @param {number} count */
  async continueTo(count) {
    // What another candidate has left is not to be cleared away in this one's time.
    global.gc?.()
    while (this.durations.length < count) {
      if (this.durations.length >= LEAST && this.#isOverBudget(1)) return
      await this.#once()
    }
  }

  async #once() {
    const i = this.#next++
    const { before, run, succeeded } = this.operation
    if (before) await before(i)
    const start = performance.now()
    const answer = await run(i)
    const duration = performance.now() - start
    if (!succeeded(answer, i)) throw new Error(`${this.name} failed: ${JSON.stringify(answer)}`)
    this.durations.push(duration)
    this.#spent += duration
  }

  /** @param {number} share */
  #isOverBudget(share) {
    return this.#spent > (this.amount.budget ?? Infinity) * share
  }
}
