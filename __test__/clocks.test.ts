import { existsSync } from 'node:fs'
import { expect, test } from 'vitest'
import { Peer } from './helpers/peer.js'
import { makeWorkspace, openLeases } from './helpers/workspace.js'

/** Debian's faketime, by architecture. */
const library = ['x86_64', 'aarch64']
  .map((machine) => `/usr/lib/${machine}-linux-gnu/faketime/libfaketime.so.1`)
  .find((path) => existsSync(path))

test.each([
  ['a day ahead', '+1d', 86_400_000],
  ['a day behind', '-1d', -86_400_000],
])('a process whose wall clock is %s neither takes a live lease nor loses one', async (_, faketime, offset) => {
  if (!library) return void console.log('not run: faketime is not installed')
  const root = makeWorkspace()
  const here = openLeases(root, { agentId: 'here', leaseDuration: 300 })
  expect((await here.acquireLease('ours', 'SPEC')).acquired).toBe(true)

  const peer = await Peer.start({ LD_PRELOAD: library, FAKETIME: faketime, FAKETIME_DONT_FAKE_MONOTONIC: '1' })
  const there = await peer.run(async ({ driftlock }, root) => {
    const leases = new driftlock.PhaseLeaseManager(root, { agentId: 'there', leaseDuration: 300 })
    const short = new driftlock.PhaseLeaseManager(root, { agentId: 'short', leaseDuration: 0.001 })
    await short.acquireLease('short', 'SPEC')
    const taken = await leases.acquireLease('ours', 'SPEC')
    const own = await leases.acquireLease('theirs', 'SPEC')
    const stats = await leases.getStats()
    return { now: Date.now(), taken, own, holds: leases.holdsLease('theirs', 'SPEC'), stats }
  }, root)
  // It does live in another time.
  expect(Math.abs(there.now - Date.now() - offset)).toBeLessThan(60_000)
  expect(Math.abs(Date.parse(there.own.lease?.acquired_at ?? '') - Date.now() - offset)).toBeLessThan(60_000)
  expect(there.taken).toMatchObject({ acquired: false, holder: 'here' })
  expect(there.taken.expiresIn).toBeGreaterThan(240)
  expect(there.taken.expiresIn).toBeLessThanOrEqual(300)
  expect(there.holds).toBe(true)

  // And what it has is as long for us.
  expect(here.holdsLease('ours', 'SPEC')).toBe(true)
  const refused = await here.acquireLease('theirs', 'SPEC')
  expect(refused).toMatchObject({ acquired: false, holder: 'there' })
  expect(refused.expiresIn).toBeGreaterThan(240)
  expect(refused.expiresIn).toBeLessThanOrEqual(300)
  expect((await here.renewLease('ours', 'SPEC')).renewed).toBe(true)
  expect((await here.acquireLease('short', 'SPEC')).acquired).toBe(true)
})
