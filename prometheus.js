'use strict'

// Metrics in Prometheus' text format, version 0.0.4.

const CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8'

/**
 * @typedef {object} Sample
 * @property {Record<string, string | number>} labels
 * @property {number} value
 * @property {string} [suffix] what the sample's name has after the family's, as the parts of a histogram do
 *
 * @typedef {object} Family
 * @property {string} name
 * @property {string} help
 * @property {string} type
 * @property {Sample[]} samples
 */

/** @param {string} text */
const escapeHelp = (text) => text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n')

/** @param {string | number} value */
const escapeLabel = (value) => escapeHelp(String(value)).replaceAll('"', '\\"')

/**
 * @param {Family[]} families
 * @param {string} [prefix] of all names
 */
function toPrometheus(families, prefix = '') {
  const lines = families.flatMap(({ name, help, type, samples }) => [
    `# HELP ${prefix}${name} ${escapeHelp(help)}`,
    `# TYPE ${prefix}${name} ${type}`,
    ...samples.map(({ labels, value, suffix = '' }) => {
      const pairs = Object.entries(labels).map(([label, value]) => `${label}="${escapeLabel(value)}"`)
      return `${prefix}${name}${suffix}${pairs.length > 0 ? `{${pairs.join(',')}}` : ''} ${value}`
    }),
  ])
  return `${lines.join('\n')}\n`
}

/**
 * What {@link import('./index.js').metrics} answers, as families.
 *
 * @param {import('./index.js').Metrics} metrics
 * @returns {Family[]}
 */
function familiesOf({ counters, histograms }) {
  return [
    ...counters.map(({ name, help, series }) => ({ name, help, type: 'counter', samples: series })),
    ...histograms.map(({ name, help, series }) => ({
      name,
      help,
      type: 'histogram',
      samples: series.flatMap(({ labels, buckets, sum, count }) => [
        ...[...buckets, { le: '+Inf', count }].map(({ le, count }) => ({
          suffix: '_bucket',
          labels: { ...labels, le },
          value: count,
        })),
        { suffix: '_sum', labels, value: sum },
        { suffix: '_count', labels, value: count },
      ]),
    })),
  ]
}

module.exports = { CONTENT_TYPE, familiesOf, toPrometheus }
