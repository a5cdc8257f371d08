import { type ChildProcess, spawn } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { type AddressInfo, connect, createServer } from 'node:net'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { TelemetryRecorder } from '../index.js'
import { RunningExporter } from './helpers/exporter.js'
import { sleep, until } from './helpers/wait.js'
import { makeWorkspace, openLeases } from './helpers/workspace.js'

const statsdScript = createRequire(__filename).resolve('statsd/stats.js')
const { datagramsOf, statsdLines, LONGEST_DATAGRAM } = require('../cli/exporter/statsd.js') as {
  datagramsOf(lines: string[]): string[]
  statsdLines(families: unknown[]): string[]
  LONGEST_DATAGRAM: number
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

/** The StatsD server that others are measured by, in a process of its own. */
class Statsd {
  private constructor(
    readonly child: ChildProcess,
    readonly port: number,
    private readonly management: number,
  ) {}

  static async start(folder: string): Promise<Statsd> {
    const [port, management] = [await freePort(), await freePort()]
    const config = join(folder, 'statsd.js')
    const settings = { port, mgmt_port: management, address: '127.0.0.1', mgmt_address: '127.0.0.1' }
    // Flushing would set the counters back to 0.
    const rest = '"backends": [], "flushInterval": 3600000, "server": "./servers/udp"'
    writeFileSync(config, `${JSON.stringify(settings).slice(0, -1)}, ${rest}}`)
    const child = spawn(process.execPath, [statsdScript, config], { stdio: ['ignore', 'ignore', 'inherit'] })
    onTestFinished(() => void child.kill('SIGKILL'))
    const server = new Statsd(child, port, management)
    await until(() => server.ask('counters').catch(() => undefined), 'statsd answers')
    return server
  }

  /** What it has, without what it counts of itself. */
  async counters(): Promise<Record<string, number>> {
    const all = Object.entries(await this.ask('counters'))
    return Object.fromEntries(all.filter(([name]) => name.startsWith('driftlock')))
  }

  gauges(): Promise<Record<string, number>> {
    return this.ask('gauges')
  }

  async badLines(): Promise<number | undefined> {
    return (await this.ask('counters'))['statsd.bad_lines_seen']
  }

  private async ask(what: string): Promise<Record<string, number>> {
    const socket = connect(this.management, '127.0.0.1')
    await once(socket, 'connect')
    socket.write(`${what}\n`)
    let answer = ''
    for await (const piece of socket) {
      answer += String(piece)
      if (answer.includes('END')) break
    }
    socket.destroy()
    // It answers as util.inspect writes objects.
    return new Function(`return ${answer.slice(0, answer.indexOf('END')) || '{}'}`)() as Record<string, number>
  }
}

describe('to a StatsD server', () => {
  test('counters arrive exactly once, also over restarts and kills', async () => {
    const root = makeWorkspace()
    const server = await Statsd.start(root)
    const address = `127.0.0.1:${server.port}`
    const recorder = new TelemetryRecorder(root)
    await Promise.all(Array.from({ length: 500 }, () => recorder.recordCounter('evidence_gate_passed')))
    const first = await RunningExporter.start(root, '--statsd', address)
    await recorder.recordCounter('evidence_gate_failed', 3)
    const leases = openLeases(root)
    await leases.acquireLease('T', 'SPEC')
    leases.close()
    // Gates, both as such and by name, and the lease.
    await until(async () => Object.keys(await server.counters()).length >= 5, 'the counters arrive')
    const counters = await server.counters()
    expect(counters).toMatchObject(tagged({ passed: 500, failed: 3 }))
    await first.kill()
    const second = await RunningExporter.start(root, '--statsd', address)
    await recorder.recordCounter('evidence_gate_failed', 2)
    await until(async () => Object.values(await server.counters()).includes(5), 'the new ones arrive')
    await second.end('SIGTERM')
    expect(await server.counters()).toEqual({ ...counters, ...tagged({ passed: 500, failed: 5 }) })
    expect(Object.keys(counters)).toHaveLength(5)
    expect(await server.badLines()).toBe(0)
    expect(await server.gauges()).toMatchObject({ 'driftlock.store_up': 1 })
  })

  test('a server that is away stops nothing', async () => {
    const root = makeWorkspace()
    const exporter = await RunningExporter.start(root, '--statsd', `127.0.0.1:${await freePort()}`)
    await new TelemetryRecorder(root).recordCounter('phase_skips_attempted')
    await sleep(300)
    await exporter.text()
    expect(await exporter.scrape()).toMatchObject({ driftlock_phase_skips_total: 1 })
    expect(await exporter.end('SIGTERM')).toBe(0)
  })
})

/** Counters of gates and of what they were recorded as. */
const tagged = ({ passed, failed }: { passed: number; failed: number }): Record<string, number> => ({
  'driftlock.evidence_gates;result=passed': passed,
  'driftlock.evidence_gates;result=failed': failed,
  'driftlock.recorded;counter=evidence_gate_passed': passed,
  'driftlock.recorded;counter=evidence_gate_failed': failed,
})

describe('lines and datagrams', () => {
  test('one line a series, without what is 0; tags hold nothing that separates', () => {
    const labels = { phase: 'A|B,c:d#\n"é"', 'na me': 'x' }
    const lines = statsdLines([
      {
        name: 'a_total',
        type: 'counter',
        samples: [
          { labels, value: 2.5 },
          { labels: {}, value: 0 },
        ],
      },
      { name: 'b_seconds_total', type: 'counter', samples: [{ labels: {}, value: 7 }] },
      { name: 'c', type: 'gauge', samples: [{ labels: { state: 'active' }, value: 0 }] },
    ])
    expect(lines).toEqual([
      'driftlock.a:2.5|c|#phase:A_B_c_d_____,na_me:x',
      'driftlock.b_seconds:7|c',
      'driftlock.c:0|g|#state:active',
    ])
  })

  test('datagrams are filled and stay below what fits', () => {
    const lines = Array.from({ length: 200 }, (_, i) => `driftlock.x:${i}|c|#phase:${'p'.repeat(i % 40)}`)
    const datagrams = datagramsOf(lines)
    expect(datagrams.join('\n')).toBe(lines.join('\n'))
    for (const datagram of datagrams) expect(Buffer.byteLength(datagram)).toBeLessThanOrEqual(LONGEST_DATAGRAM)
    for (const [i, datagram] of datagrams.slice(0, -1).entries())
      expect(datagram.length + (datagrams[i + 1]?.split('\n')[0]?.length ?? 0) + 1).toBeGreaterThan(LONGEST_DATAGRAM)
  })

  test('a burst is one line a series', async () => {
    const root = makeWorkspace()
    const socket = createSocket('udp4')
    onTestFinished(() => void socket.close())
    const seen: string[] = []
    socket.on('message', (message) => seen.push(...message.toString().split('\n')))
    socket.bind(0, '127.0.0.1')
    await once(socket, 'listening')
    const recorder = new TelemetryRecorder(root)
    await Promise.all(Array.from({ length: 3000 }, () => recorder.recordCounter('phase_skips_attempted')))
    await RunningExporter.start(root, '--statsd', `127.0.0.1:${socket.address().port}`)
    await until(() => seen.some((line) => line.startsWith('driftlock.phase_skips')), 'the line arrives')
    await sleep(300)
    expect(seen.filter((line) => line.startsWith('driftlock.phase_skips'))).toEqual(['driftlock.phase_skips:3000|c'])
  })
})
