// The dashboard as one SVG.

import { init } from 'echarts'

/**
 * @typedef {{ name: string, points: number[][] }} Series points are pairs of seconds since the start and a value
 * @typedef {{ panel: import('../grafana/panels.mjs').Panel, series: Series[] }} Drawn
 * @typedef {{ violatedFrom: number, end: number }} Run seconds since the start
 */

const WIDTH = 1200
const MARGIN = 16
const HEADER = 56
const SIZES = {
  stat: { columns: 6, height: 92 },
  lines: { columns: 2, height: 190 },
  timeline: { columns: 1, height: 210 },
}
const RED = '#c4162a'
const GREEN = '#37872d'
const COLORS = [
  '#1f77b4',
  '#d62728',
  '#2ca02c',
  '#9467bd',
  '#ff7f0e',
  '#17becf',
  '#8c564b',
  '#e377c2',
  '#7f7f7f',
  '#bcbd22',
]

/** @type {Record<import('../grafana/panels.mjs').Panel['unit'], (value: number) => string>} */
const FORMATS = {
  short: (value) => String(Math.round(value * 10) / 10),
  opm: (value) => String(Math.round(value)),
  percentunit: (value) => `${(value * 100).toFixed(1)} %`,
  s: (value) => (value < 1 ? `${Math.round(value * 1000)} ms` : `${Math.round(value * 10) / 10} s`),
  bytes: (value) => `${value} B`,
}

/**
 * @param {Drawn[]} drawn
 * @param {Run} run
 * @returns {string}
 */
export function drawDashboard(drawn, run) {
  const { violatedFrom } = run
  const title = `What the dashboard shows: a run with the load within the levels for ${violatedFrom / 60} minutes, then beyond them`
  const { places, height } = layOut(drawn)
  const parts = drawn.map((one, i) => drawPanel(one, places[i] ?? { x: 0, y: 0, width: 0, height: 0 }, run))
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" font-family="sans-serif">`,
    `<title>${title}</title>`,
    `<rect width="${WIDTH}" height="${height}" fill="#f4f5f5"/>`,
    `<text x="${MARGIN}" y="34" font-size="20" fill="#222">${title}</text>`,
    ...parts,
    '</svg>\n',
  ].join('\n')
}

/** Panels of one size side by side, as on the dashboard. @param {Drawn[]} drawn */
function layOut(drawn) {
  let x = MARGIN
  let y = HEADER
  let rowHeight = 0
  const places = drawn.map(({ panel, series }) => {
    const size = SIZES[panel.kind]
    const width = (WIDTH - MARGIN) / size.columns - MARGIN
    const height = panel.kind === 'timeline' ? 70 + 22 * series.length : size.height
    if (x + width > WIDTH || (rowHeight !== 0 && height !== rowHeight)) {
      x = MARGIN
      y += rowHeight + MARGIN
    }
    rowHeight = height
    const place = { x, y, width, height }
    x += width + MARGIN
    return place
  })
  return { places, height: y + rowHeight + MARGIN }
}

/**
 * @param {Drawn} drawn
 * @param {{ x: number, y: number, width: number, height: number }} place
 * @param {Run} run
 */
function drawPanel({ panel, series }, { x, y, width, height }, run) {
  const inside =
    panel.kind === 'stat' ? drawNumber(panel, series, width, height) : drawChart(panel, series, width, height, run)
  return [
    `<g transform="translate(${x} ${y})">`,
    `<rect width="${width}" height="${height}" rx="4" fill="#fff" stroke="#ddd"/>`,
    `<text x="10" y="20" font-size="11" font-weight="bold" fill="#333">${panel.title}</text>`,
    inside,
    '</g>',
  ].join('\n')
}

/**
 * @param {import('../grafana/panels.mjs').Panel} panel
 * @param {Series[]} series
 * @param {number} width
 * @param {number} height
 */
function drawNumber({ unit, red = Number.POSITIVE_INFINITY, none = '' }, series, width, height) {
  const value = series[0]?.points[0]?.[1]
  const color = value !== undefined && value >= red ? RED : GREEN
  const text = value === undefined ? none : FORMATS[unit](value)
  return `<text x="${width / 2}" y="${height / 2 + 22}" font-size="28" text-anchor="middle" fill="${color}">${text}</text>`
}

/**
 * @param {import('../grafana/panels.mjs').Panel} panel
 * @param {Series[]} series
 * @param {number} width
 * @param {number} height
 * @param {Run} run
 */
function drawChart({ kind, unit, red = Number.POSITIVE_INFINITY }, series, width, height, { violatedFrom, end }) {
  const timeline = kind === 'timeline'
  // Of a dozen phases, those that nothing happened in would hide the others.
  const happened = series.filter(({ points }) => points.some(([, value]) => value !== 0))
  const shown = timeline || series.length <= 4 || happened.length === 0 ? series : happened
  const chart = init(null, null, { renderer: 'svg', ssr: true, width, height: height - 26 })
  chart.setOption({
    animation: false,
    color: COLORS,
    grid: { left: timeline ? 270 : 60, right: timeline ? 20 : 170, top: 12, bottom: 26 },
    legend: timeline ? { show: false } : { orient: 'vertical', left: width - 160, top: 8, textStyle: { fontSize: 11 } },
    xAxis: {
      type: 'value',
      min: 0,
      max: end,
      interval: 60,
      axisLabel: { formatter: (/** @type {number} */ at) => `${at / 60} min` },
    },
    yAxis: timeline
      ? { type: 'category', data: shown.map(({ name }) => name), inverse: true, axisTick: { show: false } }
      : {
          type: 'value',
          min: 0,
          axisLabel: { formatter: FORMATS[unit] },
          splitNumber: 3,
          minInterval: unit === 'bytes' ? 1 : 0,
        },
    series: shown.map(({ name, points }, i) => ({
      name,
      type: /** @type {const} */ ('line'),
      symbol: 'none',
      lineStyle: timeline ? { width: 10, color: red <= 1 ? RED : GREEN } : { width: 1.5 },
      // A bar where there is something; nothing where a sample is missing or 0.
      data: timeline ? withGaps(points).map(([at, value]) => [at, value ? i : null]) : points,
      markLine: i === 0 ? beginOfViolations(violatedFrom) : undefined,
    })),
  })
  const svg = chart.renderToSVGString()
  chart.dispose()
  // Its styles are for pointers that hover, which no image knows.
  return svg.replace(/<style[\s\S]*<\/style>/, '').replace('<svg ', '<svg y="26" ')
}

/** @param {number} violatedFrom */
const beginOfViolations = (violatedFrom) => ({
  silent: true,
  symbol: 'none',
  label: { show: false },
  lineStyle: { color: RED, type: /** @type {const} */ ('dashed') },
  data: [{ xAxis: violatedFrom }],
})

/** With an empty point where samples are missing. @param {number[][]} points @returns {(number | null)[][]} */
function withGaps(points) {
  return points.flatMap(([at = 0, value = 0], i) => {
    const next = points[i + 1]?.[0]
    return next !== undefined && next - at > 3
      ? [
          [at, value],
          [at + 1, null],
        ]
      : [[at, value]]
  })
}
