// The exporter, Prometheus and Alertmanager as they are deployed, with somebody who listens in the place of Slack and
// PagerDuty; all on the loopback interface.
import { spawnSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { alertmanagerConfiguration, alertRules, prometheusConfiguration } from './configuration.mjs'
import { freePort, Program, until } from './programs.mjs'

const root = join(import.meta.dirname, '../..')
const programs = ['prometheus', 'promtool', 'prometheus-alertmanager', 'amtool']

/** Why nothing can be run here, or undefined. */
export function missingPrograms() {
  const missing = programs.find((program) => spawnSync(program, ['--version']).error)
  return missing && `${missing} is not installed (apt-get install prometheus prometheus-alertmanager)`
}

/**
 * @typedef {object} Notice one alert in one message
 * @property {'slack' | 'pagerduty'} receiver
 * @property {string} alert in lower case, as the runbook's anchor is
 * @property {'firing' | 'resolved'} status
 */

/** Takes what Alertmanager sends to Slack and PagerDuty, and answers as they do. */
export class Receivers {
  /** @type {Notice[]} */
  notices = []
  /** @type {{ receiver: Notice['receiver'], body: any }[]} */
  messages = []
  #server = createServer(async (request, response) => {
    const chunks = []
    for await (const chunk of request) chunks.push(chunk)
    const body = JSON.parse(Buffer.concat(chunks).toString())
    const receiver = request.url === '/slack' ? 'slack' : 'pagerduty'
    this.messages.push({ receiver, body })
    this.notices.push(...(receiver === 'slack' ? readSlack(body) : readPagerDuty(body)))
    if (receiver === 'slack') response.end('ok')
    else response.writeHead(202).end('{"status":"success"}')
  })

  /** @param {number} port */
  listen(port) {
    return new Promise((resolve) => {
      this.#server.listen(port, '127.0.0.1', () => resolve(undefined))
    })
  }

  close() {
    this.#server.close()
    this.#server.closeAllConnections()
  }
}

/** @param {any} body @returns {Notice[]} */
function readSlack({ attachments }) {
  const found = attachments[0].text.matchAll(/^\*(firing|resolved), \w+\*: .+\n.+\nWhat to do: \S+#(\w+)$/gm)
  return Array.from(found, ([, status, alert]) => ({ receiver: 'slack', alert, status }))
}

/** @param {any} body @returns {Notice[]} */
function readPagerDuty({ event_action, payload }) {
  const status = event_action === 'trigger' ? 'firing' : 'resolved'
  return [{ receiver: 'pagerduty', alert: payload.class.toLowerCase(), status }]
}

/** All of it, for one workspace. */
export class Stack {
  receivers = new Receivers()
  #folder
  #workspace
  #ports = { exporter: 0, prometheus: 0, alertmanager: 0, receivers: 0 }
  /** @type {Program | undefined} */
  #exporter
  /** @type {Program[]} */
  #programs = []

  /**
   * @param {string} folder for configuration and data
   * @param {string} workspace
   */
  constructor(folder, workspace) {
    this.#folder = folder
    this.#workspace = workspace
  }

  /** @param {Parameters<typeof alertRules>[0]} [changes] */
  async start(changes) {
    for (const name of /** @type {const} */ (['exporter', 'prometheus', 'alertmanager', 'receivers'])) {
      this.#ports[name] = await freePort()
    }
    await this.receivers.listen(this.#ports.receivers)
    await this.startExporter()
    await this.#startAlertmanager()
    await this.#startPrometheus()
    // What is counted before the first sample can't be seen to rise.
    await until('the first sample', async () => (await this.query('driftlock_store_up')).length > 0)
    // Only now: Prometheus lets five seconds pass before it asks the exporter, which is gone till then.
    if (changes) await this.changeRules(changes)
  }

  async startExporter() {
    const address = this.#address('exporter')
    const args = [join(root, 'bin/driftlock.js'), 'exporter', '--workspace', this.#workspace, '--listen', address]
    this.#exporter = await Program.start(process.execPath, args, `http://${address}/healthz`)
  }

  /** @param {NodeJS.Signals} [signal] */
  async stopExporter(signal) {
    await this.#exporter?.stop(signal)
  }

  async #startAlertmanager() {
    const folder = join(this.#folder, 'alertmanager')
    mkdirSync(folder, { recursive: true })
    const slackUrlFile = join(folder, 'slack-webhook-url')
    const pagerdutyKeyFile = join(folder, 'pagerduty-routing-key')
    const receivers = `http://${this.#address('receivers')}`
    writeFileSync(slackUrlFile, `${receivers}/slack`)
    writeFileSync(pagerdutyKeyFile, 'a'.repeat(32))
    const file = join(folder, 'alertmanager.yml')
    const pagerdutyUrl = `${receivers}/pagerduty`
    writeFileSync(file, alertmanagerConfiguration({ slackUrlFile, pagerdutyKeyFile, pagerdutyUrl }))
    const address = this.#address('alertmanager')
    const args = [
      `--config.file=${file}`,
      `--web.listen-address=${address}`,
      '--cluster.listen-address=',
      `--storage.path=${join(folder, 'data')}`,
    ]
    this.#programs.push(await Program.start('prometheus-alertmanager', args, `http://${address}/-/ready`))
  }

  async #startPrometheus() {
    const folder = join(this.#folder, 'prometheus')
    mkdirSync(folder, { recursive: true })
    const file = join(folder, 'prometheus.yml')
    const places = { rules: this.#rulesFile, exporter: this.#address('exporter') }
    writeFileSync(this.#rulesFile, alertRules())
    writeFileSync(file, prometheusConfiguration({ ...places, alertmanager: this.#address('alertmanager') }))
    const address = this.#address('prometheus')
    const args = [
      `--config.file=${file}`,
      `--web.listen-address=${address}`,
      `--storage.tsdb.path=${join(folder, 'data')}`,
      '--web.enable-lifecycle',
      // What resolves while changed rules are loaded finds no Alertmanager, and is sent again after this.
      '--rules.alert.resend-delay=1s',
    ]
    this.#programs.push(await Program.start('prometheus', args, `http://${address}/-/ready`))
  }

  /** Has Prometheus go on with other rules; what fires now goes on. @param {Parameters<typeof alertRules>[0]} changes */
  async changeRules(changes) {
    writeFileSync(this.#rulesFile, alertRules(changes))
    const { ok, statusText } = await fetch(`http://${this.#address('prometheus')}/-/reload`, { method: 'POST' })
    if (!ok) throw new Error(`Prometheus does not take the rules: ${statusText}`)
  }

  get #rulesFile() {
    return join(this.#folder, 'prometheus/driftlock.rules.yml')
  }

  /** @param {'exporter' | 'prometheus' | 'alertmanager' | 'receivers'} name */
  #address(name) {
    return `127.0.0.1:${this.#ports[name]}`
  }

  /** @param {string} path @returns {Promise<any>} */
  async #ask(path) {
    const response = await fetch(`http://${this.#address('prometheus')}/api/v1/${path}`)
    const { status, data, error } = /** @type {any} */ (await response.json())
    if (status !== 'success') throw new Error(`Prometheus refuses ${decodeURIComponent(path)}: ${error}`)
    return data
  }

  /** @param {string} expression @returns {Promise<{ metric: Record<string, string>, value: [number, string] }[]>} */
  async query(expression) {
    return (await this.#ask(`query?query=${encodeURIComponent(expression)}`)).result
  }

  /**
   * @param {string} expression
   * @param {{ start: number, end: number, step: number }} range seconds
   * @returns {Promise<{ metric: Record<string, string>, values: [number, string][] }[]>}
   */
  async queryRange(expression, { start, end, step }) {
    const query = encodeURIComponent(expression)
    return (await this.#ask(`query_range?query=${query}&start=${start}&end=${end}&step=${step}`)).result
  }

  /** What Prometheus takes for alerts, waiting or firing. @returns {Promise<{ labels: Record<string, string>, state: string }[]>} */
  async alerts() {
    return (await this.#ask('alerts')).alerts
  }

  /** The names of the alerts that Alertmanager keeps back. @returns {Promise<string[]>} */
  async inhibited() {
    const url = `http://${this.#address('alertmanager')}/api/v2/alerts?inhibited=true&active=false`
    const alerts = /** @type {any[]} */ (await (await fetch(url)).json())
    return alerts.map(({ labels }) => labels.alertname)
  }

  async stop() {
    await this.stopExporter('SIGKILL')
    for (const program of this.#programs) await program.stop('SIGKILL')
    this.receivers.close()
  }
}
