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
    return Object.fromEntries(series.map((one) => [one.name, one.summary()]))
  } finally {
    for (const one of series) await one.operation.close?.()
  }
}

class Series {
  /** @type {number[]} */
  durations = []
  /** @type {number[]} those during which the system gave the processor to another program */
  #disturbed = []
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
    this.#disturbed = []
    this.#spent = 0
  }

  /** Of those that were not disturbed, unless all were: the others tell of the machine, not of the candidate. */
  summary() {
    return {
      ...summarize(this.durations.length > 0 ? this.durations : this.#disturbed),
      disturbed: this.#disturbed.length,
    }
  }

  get #count() {
    return this.durations.length + this.#disturbed.length
  }

  /** @param {number} count */
  async continueTo(count) {
    // What another candidate has left is not to be cleared away in this one's time.
    global.gc?.()
    while (this.#count < count) {
      if (this.#count >= LEAST && this.#isOverBudget(1)) return
      await this.#once()
    }
  }

  async #once() {
    const i = this.#next++
    const { before, run, succeeded } = this.operation
    if (before) await before(i)
    const switchesBefore = process.resourceUsage().involuntaryContextSwitches
    const start = performance.now()
    const answer = await run(i)
    const duration = performance.now() - start
    const wasDisturbed = process.resourceUsage().involuntaryContextSwitches !== switchesBefore
    if (!succeeded(answer, i)) throw new Error(`${this.name} failed: ${JSON.stringify(answer)}`)
    const list = wasDisturbed ? this.#disturbed : this.durations
    list.push(duration)
    this.#spent += duration
  }

  /** @param {number} share */
  #isOverBudget(share) {
    return this.#spent > (this.amount.budget ?? Infinity) * share
  }
}
