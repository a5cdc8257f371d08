// Taking the time of one operation, for all candidates in the same minutes.

import { summarizeRounds } from './summary.mjs'

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
 * @property {number} [budget] milliseconds after which a slow candidate has been measured often enough; once a round it
 * is in any case
 */

/** Candidates take turns, so that what else the machine does hits all of them. */
const ROUNDS = 10

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
      for (const one of series) await one.round()
      advance()
    }
    return Object.fromEntries(series.map((one) => [one.name, summarizeRounds(one.rounds)]))
  } finally {
    for (const one of series) await one.operation.close?.()
  }
}

class Series {
  /** @type {number[][]} by round */
  rounds = []
  #next = 0

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

  warmUp() {
    return this.#repeat(this.amount.warmUp)
  }

  async round() {
    // What another candidate has left is not to be cleared away in this one's time.
    global.gc?.()
    this.rounds.push(await this.#repeat(Math.ceil(this.amount.iterations / ROUNDS)))
  }

  /** @param {number} times */
  async #repeat(times) {
    const { before, run, succeeded } = this.operation
    const budget = (this.amount.budget ?? Infinity) / ROUNDS
    const durations = []
    for (let spent = 0; durations.length < times && spent < budget; ) {
      const i = this.#next++
      if (before) await before(i)
      const start = performance.now()
      const answer = await run(i)
      const duration = performance.now() - start
      if (!succeeded(answer, i)) throw new Error(`${this.name} failed: ${JSON.stringify(answer)}`)
      durations.push(duration)
      spent += duration
    }
    return durations
  }
}
