// The whole way of an alert: agents do what they should not, and somebody at Slack or PagerDuty is told; on the real
// programs, with the committed configuration.
import { appendFileSync, readdirSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, onTestFinished, test } from 'vitest'
import * as driftlock from '../../index.js'
import { Load } from '../../monitoring/rehearsal/load.mjs'
import { until } from '../../monitoring/rehearsal/programs.mjs'
import { missingPrograms, type Notice, Stack } from '../../monitoring/rehearsal/stack.mjs'
import { databasePath, ledgerPath, makeWorkspace } from '../helpers/workspace.js'
import { allAlerts, notRun } from './configuration.js'

const names = allAlerts().map(({ alert }) => alert.toLowerCase())
const criticals = allAlerts()
  .filter(({ labels }) => labels.severity === 'critical')
  .map(({ alert }) => alert.toLowerCase())

describe.skipIf(notRun(missingPrograms()))('alerts', () => {
  test('arrive where they should, and clear', { timeout: 180_000 }, async () => {
    const workspace = makeWorkspace()
    const load = new Load(driftlock, workspace)
    await load.initialize()
    onTestFinished(() => load.close())
    const stack = new Stack(makeWorkspace(), workspace)
    onTestFinished(() => stack.stop())
    await stack.start({ shortFor: true })

    const told = (receiver: Notice['receiver'], alert: string, status: Notice['status']) =>
      stack.receivers.notices.some(
        (notice) => notice.receiver === receiver && notice.alert === alert.toLowerCase() && notice.status === status,
      )
    const arrives = async (alert: string, status: Notice['status'] = 'firing') => {
      await until(`Slack is told that ${alert} is ${status}`, () => told('slack', alert, status))
      if (!criticals.includes(alert.toLowerCase())) return
      await until(`PagerDuty is told that ${alert} is ${status}`, () => told('pagerduty', alert, status))
    }

    // Within the levels: a bit of everything that is allowed.
    for (let i = 0; i < 5; i++) {
      await load.gates(60, 0)
      await load.validations(30, 0)
      await load.leases(40, 1)
      for (const phase of ['SPEC', 'IMPLEMENT', 'VERIFY'] as const) await load.prompt(phase, phase !== 'VERIFY')
      await load.transition('VERIFY')
      await sleep(500)
    }
    await load.gates(0, 1)
    await load.validations(0, 1)
    await until('the load is seen', async () => {
      const [failed] = await stack.query('driftlock_evidence_gates_total{result="failed"}')
      return failed?.value[1] === '1'
    })
    await sleep(3000)
    expect(await stack.alerts()).toEqual([])
    expect(stack.receivers.messages).toEqual([])

    await load.prompt('VERIFY', true)
    await load.skip()
    await load.gates(0, 20)
    await load.validations(0, 20)
    // 15 of 216: too much, but no storm yet.
    await load.leases(1, 10)
    await arrives('DriftlockHighSeverityDrift')
    await arrives('DriftlockPhasesSkipped')
    await arrives('DriftlockEvidenceGatesFailing')
    await arrives('DriftlockPhaseValidationsFailing')
    await arrives('DriftlockPhaseValidationsFailingSlowly')
    await arrives('DriftlockLeaseContentionHigh')
    expect((await stack.alerts()).map(({ labels }) => labels.alertname)).not.toContain('DriftlockLeaseContentionStorm')

    await load.leases(1, 60)
    await arrives('DriftlockLeaseContentionStorm')

    appendFileSync(ledgerPath(workspace), 'not an entry\n')
    await arrives('DriftlockLogDamaged')

    load.close()
    const state = join(workspace, 'state')
    const files = readdirSync(state).filter((name) => name.startsWith('orchestrator.db'))
    for (const name of files) renameSync(join(state, name), join(state, `kept-${name}`))
    writeFileSync(databasePath(workspace), 'not a database')
    await arrives('DriftlockStoreUnreadable')
    for (const name of files) renameSync(join(state, `kept-${name}`), join(state, name))
    await arrives('DriftlockStoreUnreadable', 'resolved')

    await stack.stopExporter('SIGKILL')
    await arrives('DriftlockExporterGone')
    // Warnings are old news meanwhile.
    await until('warnings are kept back', async () =>
      (await stack.inhibited()).includes('DriftlockEvidenceGatesFailing'),
    )
    const inhibited = (await stack.inhibited()).map((alert) => alert.toLowerCase())
    expect(inhibited.filter((alert) => criticals.includes(alert))).toEqual([])
    await stack.startExporter()
    await arrives('DriftlockExporterGone', 'resolved')
    await until('warnings are kept back no longer', async () => (await stack.inhibited()).length === 0)

    // What was seen in the last minutes has to pass: the windows, not the levels, are what is made shorter.
    await stack.changeRules({ shortFor: true, window: '5s' })
    const counters = join(workspace, 'state/telemetry/counters.jsonl')
    await until('an unread log is told of', () => {
      appendFileSync(counters, 'half a line')
      return told('slack', 'DriftlockLogUnread', 'firing')
    })
    appendFileSync(counters, '\n')
    for (const alert of names) await arrives(alert, 'resolved')

    const alertsOf = (receiver: Notice['receiver']) => [
      ...new Set(stack.receivers.notices.filter((notice) => notice.receiver === receiver).map(({ alert }) => alert)),
    ]
    expect(alertsOf('slack').sort()).toEqual(names.sort())
    expect(alertsOf('pagerduty').sort()).toEqual(criticals.sort())
  })
})
