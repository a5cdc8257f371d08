'use strict'

// Metric families as Prometheus reads them: the text format, version 0.0.4.

const CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8'

/** @typedef {import('./exporter.js').Family} Family */

/** @param {string} text */
const escapeHelp = (text) => text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n')

/** @param {string} value */
const escapeLabel = (value) => escapeHelp(value).replaceAll('"', '\\"')

/** @param {Family[]} families */
function toPrometheus(families) {
  const lines = families.flatMap(({ name, help, type, samples }) => [
    `# HELP driftlock_${name} ${escapeHelp(help)}`,
    `# TYPE driftlock_${name} ${type}`,
    ...samples.map(({ labels, value }) => {
      const pairs = Object.entries(labels).map(([label, value]) => `${label}="${escapeLabel(value)}"`)
      return `driftlock_${name}${pairs.length > 0 ? `{${pairs.join(',')}}` : ''} ${value}`
    }),
  ])
  return `${lines.join('\n')}\n`
}

module.exports = { CONTENT_TYPE, toPrometheus }
