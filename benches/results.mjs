// What a run has found.

/** @typedef {import('./summary.mjs').RoundsSummary} Summary */

/**
 * How long one operation took, at one size, for each candidate.
 * @typedef {{name: string, size: number, candidates: Record<string, Summary>}} Latency
 */

/**
 * Any other figure: `unit` is 'ms', 'bytes', '/s', '' …
 * @typedef {{name: string, candidate: string, value: number, unit: string}} Figure
 */

export class Results {
  /** @type {Latency[]} */
  operations = []
  /** @type {Latency[]} */
  growth = []
  /** @type {Figure[]} */
  figures = []
  /** @type {string[]} steps that could not be measured, and why */
  failures = []

  /**
   * @param {string} name
   * @param {string} candidate
   * @param {number} value
   * @param {string} unit
   */
  add(name, candidate, value, unit) {
    this.figures.push({ name, candidate, value, unit })
  }

  /**
   * @param {string} name
   * @param {string} [candidate]
   * @returns {number | undefined}
   */
  figure(name, candidate = 'driftlock') {
    return this.figures.find((figure) => figure.name === name && figure.candidate === candidate)?.value
  }

  /**
   * An operation with little or nothing prepared, or among so many records.
   * @param {string} name
   * @param {number} [size]
   * @returns {Record<string, Summary> | undefined}
   */
  latency(name, size) {
    const list = size === undefined ? this.operations : this.growth
    return list.find((one) => one.name === name && (size === undefined || one.size === size))?.candidates
  }
}
