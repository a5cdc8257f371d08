// What many durations have in common.

import { percentile } from '../demo/timings.mjs'

/**
 * Durations in milliseconds.
 * @typedef {{count: number, p50: number, p95: number, p99: number, p999: number, max: number, mean: number, deviation: number}} Summary
 */

/**
 * @param {ArrayLike<number>} durations
 * @returns {Summary}
 */
export function summarize(durations) {
  const sorted = Float64Array.from(durations).sort()
  const count = sorted.length
  const mean = sorted.reduce((sum, value) => sum + value, 0) / count
  const variance = sorted.reduce((sum, value) => sum + (value - mean) ** 2, 0) / Math.max(1, count - 1)
  const at = (/** @type {number} */ percent) => percentile(sorted, percent)
  return {
    count,
    p50: at(50),
    p95: at(95),
    p99: at(99),
    p999: at(99.9),
    max: sorted[count - 1] ?? 0,
    mean,
    deviation: Math.sqrt(variance),
  }
}

/**
 * All durations, and what candidates are compared by. Of the rounds' medians that is the middle one: an odd round decides
 * nothing (where threads of Node happen to be awake, what goes through them is four times as fast for a round). Of the
 * tails it is the shortest: other programs only add to them, and what a candidate does itself, checkpoints and collected
 * garbage included, it does in each round.
 * @typedef {Summary & {compared: {p50: number, p999: number}}} RoundsSummary
 */

/**
 * @param {number[][]} rounds
 * @returns {RoundsSummary}
 */
export function summarizeRounds(rounds) {
  const each = rounds.map(summarize)
  const compared = { p50: median(each.map(({ p50 }) => p50)), p999: Math.min(...each.map(({ p999 }) => p999)) }
  return { ...summarize(rounds.flat()), compared }
}

/** @param {ArrayLike<number>} values */
export const median = (values) => percentile(Float64Array.from(values).sort(), 50)
