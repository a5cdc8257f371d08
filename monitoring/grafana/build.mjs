// Builds Grafana's dashboard: node monitoring/grafana/build.mjs writes dashboard.json, which is committed.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { BigValueGraphMode, ReduceDataOptionsBuilder } from '@grafana/grafana-foundation-sdk/common'
import {
  DashboardBuilder,
  DatasourceVariableBuilder,
  QueryVariableBuilder,
  RowBuilder,
  ThresholdsConfigBuilder,
  ThresholdsMode,
  VariableRefresh,
} from '@grafana/grafana-foundation-sdk/dashboard'
import { DataqueryBuilder } from '@grafana/grafana-foundation-sdk/prometheus'
import { PanelBuilder as StatBuilder } from '@grafana/grafana-foundation-sdk/stat'
import { PanelBuilder as TimelineBuilder } from '@grafana/grafana-foundation-sdk/statetimeline'
import { PanelBuilder as LinesBuilder } from '@grafana/grafana-foundation-sdk/timeseries'
import { rows } from './panels.mjs'

/** Whoever imports the dashboard chooses among the data sources there are. */
// biome-ignore lint/suspicious/noTemplateCurlyInString: a variable of Grafana's
const datasource = { type: 'prometheus', uid: '${datasource}' }

const BUILDERS = { stat: StatBuilder, lines: LinesBuilder, timeline: TimelineBuilder }

/** Grafana's grid has 24 columns. */
const SIZES = { stat: { width: 4, height: 4 }, lines: { width: 12, height: 8 }, timeline: { width: 24, height: 7 } }

/** @returns {string} the dashboard, as it is committed */
export function buildDashboard() {
  const dashboard = new DashboardBuilder('driftlock')
    .uid('driftlock')
    .description('Leases, drift, phases and gates of the agents that share a workspace, against their service levels.')
    .tags(['driftlock'])
    .refresh('30s')
    .time({ from: 'now-6h', to: 'now' })
    .timezone('browser')
    .withVariable(new DatasourceVariableBuilder('datasource').label('Data source').type('prometheus'))
    .withVariable(
      new QueryVariableBuilder('instance')
        .label('Workspace')
        .datasource(datasource)
        .query('label_values(up{job="driftlock"}, instance)')
        .refresh(VariableRefresh.OnTimeRangeChanged)
        .multi(true)
        .includeAll(true)
        .allValue('.*')
        .current({ selected: true, text: 'All', value: '$__all' }),
    )
  for (const { title, panels } of rows) {
    dashboard.withRow(new RowBuilder(title))
    for (const panel of panels) dashboard.withPanel(buildPanel(panel))
  }
  return `${JSON.stringify(dashboard.build(), null, 2)}\n`
}

/** @param {import('./panels.mjs').Panel} panel */
function buildPanel({ title, description, kind, unit, red, none, queries }) {
  const { width, height } = SIZES[kind]
  const builder = new BUILDERS[kind]()
    .title(title)
    .description(description)
    .datasource(datasource)
    .span(width)
    .height(height)
    .unit(unit)
    .min(0)
  if (red !== undefined) {
    const steps = [
      { value: null, color: 'green' },
      { value: red, color: 'red' },
    ]
    builder.thresholds(new ThresholdsConfigBuilder().mode(ThresholdsMode.Absolute).steps(steps))
  }
  if (none !== undefined) builder.noValue(none)
  if (builder instanceof StatBuilder) {
    builder.graphMode(BigValueGraphMode.None).reduceOptions(new ReduceDataOptionsBuilder().calcs(['lastNotNull']))
  }
  queries.forEach(({ expr, legend }, i) => {
    const query = new DataqueryBuilder()
      .refId(String.fromCharCode(65 + i))
      .datasource(datasource)
      .expr(expr)
    // Of a range, the last value that there was would be shown long after it.
    if (kind === 'stat') query.instant()
    builder.withTarget(legend === undefined ? query : query.legendFormat(legend))
  })
  return builder
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  writeFileSync(join(import.meta.dirname, 'dashboard.json'), buildDashboard())
}
