// Latency against size, as SVG.

import { init } from 'echarts'
import { formatDuration } from '../demo/timings.mjs'

/** What is drawn, and in which colour. */
const OPERATIONS = {
  'repeated attestation': '#1f77b4',
  'first attestation': '#d62728',
  'history of one task': '#2ca02c',
  'ledger append': '#9467bd',
}

const TITLE = 'Median time of one call, by the number of records and baselines on disk'

/**
 * Both axes are logarithmic, so zero records are drawn where one would be.
 * @param {import('./results.mjs').Results} results
 * @returns {string}
 */
export function drawChart({ growth }) {
  const series = Object.entries(OPERATIONS).flatMap(([name, color]) =>
    ['driftlock', 'reference'].map((candidate) => ({
      name: candidate === 'driftlock' ? name : `${name}, reference`,
      type: /** @type {const} */ ('line'),
      color,
      symbol: candidate === 'driftlock' ? 'circle' : 'emptyCircle',
      symbolSize: 6,
      lineStyle: { type: candidate === 'driftlock' ? /** @type {const} */ ('solid') : /** @type {const} */ ('dashed') },
      data: growth
        .filter((one) => one.name === name && one.candidates[candidate])
        .map((one) => [Math.max(1, one.size), one.candidates[candidate]?.compared.p50]),
    })),
  )
  const chart = init(null, null, { renderer: 'svg', ssr: true, width: 900, height: 480 })
  chart.setOption({
    animation: false,
    backgroundColor: '#fff',
    grid: { left: 70, right: 280, top: 50, bottom: 55 },
    title: { text: TITLE, left: 'center', top: 10 },
    legend: { orient: 'vertical', left: 645, top: 60, itemWidth: 35, selectedMode: false },
    xAxis: {
      type: 'log',
      min: 1,
      max: 1_000_000,
      name: 'records',
      nameLocation: 'middle',
      nameGap: 32,
      axisLabel: { formatter: (/** @type {number} */ value) => (value === 1 ? '0' : value.toLocaleString('en')) },
    },
    yAxis: { type: 'log', axisLabel: { formatter: (/** @type {number} */ value) => formatDuration(value) } },
    series,
  })
  const svg = chart.renderToSVGString()
  chart.dispose()
  // Its styles are for pointers that hover, which no image knows; and who can't see it is to be told what it shows.
  return `${svg.replace(/<style[\s\S]*<\/style>/, '').replace('>', `><title>${TITLE}</title>`)}\n`
}
