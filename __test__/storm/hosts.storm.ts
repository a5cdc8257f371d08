// Several machines: network namespaces, each with a folder of its own, that have nothing but the server in common.

import { spawnSync } from 'node:child_process'
import { chmodSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { runNode } from '../helpers/peer.js'
import { PASSWORD, startPostgres, whereIsPostgres } from '../helpers/postgres.js'
import { makeWorkspace } from '../helpers/workspace.js'
import { scaled, tell } from './weather.js'

const HOSTS = 3
const AGENTS_ON_EACH = scaled(16, 4)
const DEMO = join(__dirname, '..', '..', 'demo', 'demo.mjs')

const ip = (line: string): boolean => spawnSync('ip', line.split(' '), { stdio: 'ignore' }).status === 0

function mustIp(line: string): void {
  if (!ip(line)) throw new Error(`ip ${line} failed`)
}

/** Makes a network of machines; its address here, and the machines' names. Nothing where that can't be done. */
function makeNetwork(): { address: string; names: string[] } | undefined {
  // Of a block that nobody routes (RFC 2544), by the process, so that two runs don't meet.
  const id = process.pid % 100_000
  const [bridge, subnet] = [`dl${id}b`, `198.19.${process.pid % 256}`]
  const names = Array.from({ length: HOSTS }, (_, host) => `dl${id}h${host}`)
  if (!ip(`netns add ${names[0]}`)) return undefined
  onTestFinished(() => {
    for (const name of names) ip(`netns del ${name}`)
    ip(`link del ${bridge}`)
  })
  mustIp(`link add ${bridge} type bridge`)
  mustIp(`addr add ${subnet}.1/24 dev ${bridge}`)
  mustIp(`link set ${bridge} up`)
  for (const [host, name] of names.entries()) {
    if (host > 0) mustIp(`netns add ${name}`)
    mustIp(`link add ${name}n type veth peer name ${name}f netns ${name}`)
    mustIp(`link set ${name}n master ${bridge} up`)
    mustIp(`-n ${name} addr add ${subnet}.${host + 2}/24 dev ${name}f`)
    mustIp(`-n ${name} link set lo up`)
    mustIp(`-n ${name} link set ${name}f up`)
  }
  return { address: `${subnet}.1`, names }
}

test('agents on several machines do each phase of each task once', async (context) => {
  if (!whereIsPostgres()) return context.skip('PostgreSQL is not installed')
  const network = makeNetwork()
  if (!network) return context.skip('no network namespace can be made here: that takes root and iproute2')
  const folder = makeWorkspace()
  chmodSync(folder, 0o755)
  const access = join(folder, 'pg_hba.conf')
  writeFileSync(access, 'host all all 0.0.0.0/0 scram-sha-256\n')
  const { port, stop } = await startPostgres([
    `listen_addresses=127.0.0.1,${network.address}`,
    `hba_file=${access}`,
    'max_connections=600',
  ])
  onTestFinished(stop)
  const store = `postgres://postgres:${PASSWORD}@${network.address}:${port}/postgres?sslmode=disable`
  const agents = String(HOSTS * AGENTS_ON_EACH)
  for (const more of scaled([[], ['--kill'], ['--drift', '25']], [['--kill']])) {
    const options = ['--store', store, '--namespaces', network.names.join(','), '--agents', agents, ...more]
    const { code, stdout, stderr } = await runNode([DEMO, ...options], { limit: 300_000 })
    expect(`${stdout}${stderr}`).toContain('OK: each of 24 × 9 phases done exactly once')
    expect(code).toBe(0)
    tell(`${HOSTS} machines × ${AGENTS_ON_EACH} agents ${more.join(' ')}: ${stdout.match(/^.*transitions.*$/m)?.[0]}`)
  }
})
