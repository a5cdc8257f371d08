import { spawnSync } from 'node:child_process'
import { describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { missingPrograms } from '../../monitoring/rehearsal/stack.mjs'
import { allAlerts, monitoringPath, notRun, read } from './configuration.js'

function check(program: string, ...args: string[]): void {
  const { status, stdout, stderr } = spawnSync(program, args, { encoding: 'utf8' })
  expect(status, stdout + stderr).toBe(0)
}

interface Case {
  name: string
  alert_rule_test: { eval_time: string; alertname: string; exp_alerts: unknown[] }[]
}

describe.skipIf(notRun(missingPrograms()))('the programs themselves say that', () => {
  test('the rules are valid', () => {
    check('promtool', 'check', 'rules', '--lint=all', '--lint-fatal', monitoringPath('prometheus/driftlock.rules.yml'))
  })

  test('the rules do what their cases say', () => {
    check('promtool', 'test', 'rules', monitoringPath('prometheus/driftlock.rules.test.yml'))
  })

  test("Prometheus' configuration is valid", () => {
    check('promtool', 'check', 'config', monitoringPath('prometheus/prometheus.yml'))
  })

  test("Alertmanager's configuration is valid", () => {
    check('amtool', 'check-config', monitoringPath('alertmanager/alertmanager.yml'))
  })

  test.each([
    ['critical', 'pagerduty,slack'],
    ['warning', 'slack'],
  ])('alerts that are %s go to %s', (severity, receivers) => {
    const file = `--config.file=${monitoringPath('alertmanager/alertmanager.yml')}`
    const args = ['config', 'routes', 'test', file, `--verify.receivers=${receivers}`, `severity=${severity}`]
    check('amtool', ...args)
  })
})

describe('every alert', () => {
  const cases = (parse(read('prometheus/driftlock.rules.test.yml')) as { tests: Case[] }).tests
  const headings = [...read('RUNBOOK.md').matchAll(/^#+ (.+)$/gm)].map(([, heading]) => heading!.toLowerCase())

  test.each(allAlerts())('$alert has cases in which it fires, clears and stays silent', ({ alert }) => {
    const counts = cases
      .map((one) => one.alert_rule_test.filter(({ alertname }) => alertname === alert))
      .filter((steps) => steps.length > 0)
      .map((steps) => steps.map(({ exp_alerts }) => exp_alerts.length))
    expect(counts.some((steps) => steps.some((count, i) => count > 0 && steps[i + 1] === 0))).toBe(true)
    expect(counts.some((steps) => steps.every((count) => count === 0))).toBe(true)
  })

  test.each(allAlerts())('$alert says what it is about, and is in the runbook', ({ labels, annotations }) => {
    expect(['critical', 'warning']).toContain(labels.severity)
    expect(Object.keys(annotations).sort()).toEqual(['description', 'runbook_url', 'summary'])
    const [file, anchor] = annotations.runbook_url!.split('#')
    expect(file).toBe('monitoring/RUNBOOK.md')
    expect(headings).toContain(anchor)
  })
})
