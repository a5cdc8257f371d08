'use strict'

// The baselines file, as it stands. Other programs may write it too: nothing in it is taken for granted.

const { readFile } = require('node:fs/promises')
const { setTimeout: sleep } = require('node:timers/promises')
const { CommandError } = require('./exit.js')
const { onServer, serverBaselines } = require('./store.js')
const { FILES, pathOf } = require('./workspace.js')

/** Who reads without the lock may see half of a write, for microseconds. */
const TRIES = 5
const PAUSE_MS = 20

/**
 * @typedef {object} Baseline
 * @property {string} taskId
 * @property {string} phase
 * @property {string} hash
 * @property {number} version
 * @property {string} [updatedAt]
 * @property {string} [updatedBy]
 * @property {string} [reason]
 * @property {string} [versionTag]
 * @property {string} [personaHash]
 */

/**
 * All baselines, in the order of the file; empty if there is no file. Those of a server by their keys.
 *
 * @param {string} root
 * @returns {Promise<{baselines: Baseline[], strange: string[]}>} and the keys of what is no baseline
 */
async function readBaselines(root) {
  const content = onServer() ? await serverBaselines() : await readObject(pathOf(root, 'baselines'))
  const entries = Object.entries(content)
  /** @type {Baseline[]} */
  const baselines = []
  const strange = []
  for (const [key, value] of entries) {
    const baseline = baselineOf(key, value)
    if (baseline) baselines.push(baseline)
    else strange.push(key)
  }
  return { baselines, strange }
}

/** @param {string} path @returns {Promise<Record<string, unknown>>} */
async function readObject(path) {
  for (let left = TRIES; ; left--) {
    const text = await readFile(path, 'utf8').catch((error) => {
      if (error.code === 'ENOENT') return undefined
      throw error
    })
    if (text === undefined) return {}
    try {
      const value = JSON.parse(text)
      if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value
    } catch {}
    if (left === 1) {
      throw new CommandError(
        'DAMAGED_BASELINES',
        `${FILES.baselines} is not one JSON object. The next attestation puts it aside and mends it from the log; ` +
          'until then nothing of it can be shown',
      )
    }
    await sleep(PAUSE_MS)
  }
}

/** @param {string} key @param {any} value @returns {Baseline | undefined} */
function baselineOf(key, value) {
  const at = key.lastIndexOf(':')
  const fields = typeof value === 'string' ? { hash: value } : value
  if (at < 0 || typeof fields?.hash !== 'string') return undefined
  const texts = ['updatedAt', 'updatedBy', 'reason', 'versionTag', 'personaHash'].filter(
    (name) => typeof fields[name] === 'string',
  )
  return {
    taskId: key.slice(0, at),
    phase: key.slice(at + 1),
    hash: fields.hash,
    version: Number.isInteger(fields.version) ? fields.version : 1,
    ...Object.fromEntries(texts.map((name) => [name, fields[name]])),
  }
}

module.exports = { readBaselines }
