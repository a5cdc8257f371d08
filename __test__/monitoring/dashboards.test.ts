import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { stringify } from 'yaml'
import { buildDashboard } from '../../monitoring/grafana/build.mjs'
import { missingPrograms } from '../../monitoring/rehearsal/stack.mjs'
import { runNode } from '../helpers/peer.js'
import { makeWorkspace } from '../helpers/workspace.js'
import { allRules, notRun, read, repository } from './configuration.js'

interface Target {
  expr: string
  datasource: { uid: string }
}

interface GrafanaPanel {
  type: string
  title: string
  datasource: { uid: string }
  targets: Target[]
}

const grafana = JSON.parse(read('grafana/dashboard.json')) as { panels: GrafanaPanel[] }
const panels = grafana.panels.filter(({ type }) => type !== 'row')
const expressions = panels.flatMap(({ targets }) => targets.map(({ expr }) => expr))

/** Names of series in an expression: rules' own have colons. */
const seriesIn = (expression: string): string[] =>
  [...expression.matchAll(/(?<![\w:])driftlock_\w+(?!:)\b/g)].map(([name]) => name)

/** What the exporter shows. */
async function exportedSeries(): Promise<Set<string>> {
  const args = ['bin/driftlock.js', 'exporter', '--once', '--workspace', makeWorkspace()]
  const { code, stdout, stderr } = await runNode(args, { cwd: repository })
  expect(code, stderr).toBe(0)
  return new Set([...stdout.matchAll(/^(driftlock_\w+)/gm)].map(([, name]) => name!))
}

describe('the dashboard for Grafana', () => {
  test('is what its source makes', () => {
    expect(read('grafana/dashboard.json')).toBe(buildDashboard())
  })

  test('has panels, and leaves the data source to whoever imports it', () => {
    expect(panels.length).toBeGreaterThanOrEqual(8)
    for (const { title, datasource, targets } of panels) {
      for (const { uid } of [datasource, ...targets.map((target) => target.datasource)]) {
        // biome-ignore lint/suspicious/noTemplateCurlyInString: a variable of Grafana's
        expect(uid, title).toBe('${datasource}')
      }
    }
  })

  test('asks for no rule that there is not', () => {
    const recorded = allRules().map(({ record }) => record)
    const asked = expressions.flatMap((expression) => expression.match(/\w+:driftlock_\w+:\w+/g) ?? [])
    expect(asked).not.toEqual([])
    expect(asked.filter((name) => !recorded.includes(name))).toEqual([])
  })

  test.skipIf(notRun(missingPrograms()))('asks what Prometheus understands', () => {
    const rules = expressions.map((expression, i) => ({
      record: `panel:${i}`,
      expr: expression.replaceAll('$__rate_interval', '5m').replaceAll('$instance', '.*'),
    }))
    const file = join(makeWorkspace(), 'panels.yml')
    writeFileSync(file, stringify({ groups: [{ name: 'panels', rules }] }))
    const { status, stdout, stderr } = spawnSync('promtool', ['check', 'rules', file], { encoding: 'utf8' })
    expect(status, stdout + stderr).toBe(0)
  })
})

test('no rule and no dashboard asks for a series that the exporter does not show', async () => {
  const exported = await exportedSeries()
  const datadog = read('datadog/dashboard.json')
  const asked = [
    ...expressions.flatMap(seriesIn),
    ...allRules().flatMap(({ expr }) => seriesIn(expr)),
    // StatsD's names have dots, and no _total.
    ...[...datadog.matchAll(/driftlock\.(\w+)\{[^}]*\}[^"]*/g)].map(
      ([query, name]) => `driftlock_${name}${query.includes('as_count') ? '_total' : ''}`,
    ),
  ]
  expect(asked.length).toBeGreaterThan(40)
  expect([...new Set(asked)].filter((name) => !exported.has(name))).toEqual([])
})

test('the dashboard for DataDog has widgets', () => {
  expect(JSON.parse(read('datadog/dashboard.json')).widgets.length).toBeGreaterThanOrEqual(6)
})
