'use strict'

/**
 * Writes metrics in Prometheus' text format. Their labels come from closed lists, and need no escapes.
 *
 * @param {import('./index.js').Metrics} metrics
 */
function toPrometheus({ counters, histograms }) {
  const lines = []
  for (const { name, help, series } of counters) {
    lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} counter`)
    for (const { labels, value } of series) lines.push(sample(name, labels, value))
  }
  for (const { name, help, series } of histograms) {
    lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} histogram`)
    for (const { labels, buckets, sum, count } of series) {
      for (const bucket of buckets) lines.push(sample(`${name}_bucket`, { ...labels, le: bucket.le }, bucket.count))
      lines.push(sample(`${name}_bucket`, { ...labels, le: '+Inf' }, count))
      lines.push(sample(`${name}_sum`, labels, sum), sample(`${name}_count`, labels, count))
    }
  }
  return `${lines.join('\n')}\n`
}

/**
 * @param {string} name
 * @param {Record<string, string | number>} labels
 * @param {number} value
 */
function sample(name, labels, value) {
  const pairs = Object.entries(labels).map(([label, value]) => `${label}="${value}"`)
  return `${name}${pairs.length > 0 ? `{${pairs.join(',')}}` : ''} ${value}`
}

module.exports = { toPrometheus }
