import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { onTestFinished } from 'vitest'
import { type Ended, runNode } from './peer.js'
import { until } from './wait.js'

const commandEntry = join(__dirname, '..', '..', 'bin', 'driftlock.js')

export const telemetryPath = (root: string, name = ''): string => join(root, 'state', 'telemetry', name)
export const countersPath = (root: string): string => telemetryPath(root, 'counters.jsonl')

/** Runs `driftlock exporter` to its end. */
export const runExporter = (root: string, ...options: string[]): Promise<Ended> =>
  runNode([commandEntry, 'exporter', '--workspace', root, ...options])

/** An exporter in a process of its own. It ends with the test. */
export class RunningExporter {
  stdout = ''
  stderr = ''

  private constructor(
    readonly child: ChildProcess,
    public url: string,
  ) {
    child.stdout?.setEncoding('utf8').on('data', (text: string) => (this.stdout += text))
    child.stderr?.setEncoding('utf8').on('data', (text: string) => (this.stderr += text))
  }

  static async start(root: string, ...options: string[]): Promise<RunningExporter> {
    const fixed = ['exporter', '--workspace', root, '--listen', '127.0.0.1:0', '--interval', '100']
    const child = spawn(process.execPath, [commandEntry, ...fixed, ...options], {
      env: { ...process.env, NODE_OPTIONS: '' },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    const exporter = new RunningExporter(child, '')
    onTestFinished(async () => void (await exporter.kill()))
    exporter.url = await until(() => {
      if (child.exitCode !== null) throw new Error(`the exporter ended at its start: ${exporter.stderr}`)
      return /http:\S+(?=\/metrics)/.exec(exporter.stdout)?.[0]
    }, 'the exporter listens')
    return exporter
  }

  async text(): Promise<string> {
    const response = await fetch(`${this.url}/metrics`)
    if (response.status !== 200) throw new Error(`${response.status}: ${await response.text()}`)
    return response.text()
  }

  /** Every series with its value. */
  async scrape(): Promise<Series> {
    return seriesOf(await this.text())
  }

  async end(signal: NodeJS.Signals): Promise<number | null> {
    if (this.child.exitCode === null && this.child.signalCode === null) {
      const exited = once(this.child, 'exit')
      this.child.kill(signal)
      await exited
    }
    return this.child.exitCode
  }

  kill(): Promise<number | null> {
    return this.end('SIGKILL')
  }
}

export type Series = Record<string, number>

export function seriesOf(text: string): Series {
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'))
  return Object.fromEntries(
    lines.map((line) => {
      const at = line.lastIndexOf(' ')
      return [line.slice(0, at), Number(line.slice(at + 1))]
    }),
  )
}

/** What is not 0, without the gauges. */
export const counted = (series: Series): Series =>
  Object.fromEntries(Object.entries(series).filter(([name, value]) => value !== 0 && /_total(\{|$)/.test(name)))

/** A line as the orchestrator's own code writes it. */
export const counterLine = (counter: string, number: number, value = 1): string =>
  `${JSON.stringify({ timestamp: `2026-01-01T00:00:00.${number}Z`, counter, value, metadata: { errors: ['a|b', 'c,d'], number } })}\n`

export const makeFolderOf = (path: string): void => void mkdirSync(dirname(path), { recursive: true })

const isInstalled = (program: string): boolean => spawnSync(program, ['--version']).error === undefined

/** Where promtool is missing its tests are skipped, and fail where all must be run. */
export const promtool = isInstalled('promtool') || process.env.CI === 'true'
export const promtoolTitle = (title: string): string =>
  promtool ? title : `${title} (not run: promtool is not installed)`

/** Has promtool check the metrics; answers what it complains of. */
export function checkMetrics(text: string): string {
  try {
    return execFileSync('promtool', ['check', 'metrics'], { input: text, encoding: 'utf8', stdio: 'pipe' })
  } catch (error) {
    const { stderr, message } = error as { stderr?: string; message: string }
    return stderr || message
  }
}
