/**
 * One step of the run, which takes down what it finds in the results.
 * @typedef {object} Step
 * @property {string} name what `--only` chooses by
 * @property {(context: Context) => Promise<void>} run
 */

/**
 * @typedef {object} Context
 * @property {import('../results.mjs').Results} results
 * @property {boolean} quick
 * @property {() => void} advance to be called now and then
 */

export {}
