import { describe, expect, test } from 'vitest'
import { PhaseLedger } from '../index.js'
import { entryHash } from './helpers/hashes.js'
import { Peer } from './helpers/peer.js'
import { ledgerPath, makeWorkspace, readLines } from './helpers/workspace.js'

describe('several processes', () => {
  test('4 with 100 appends each: one chain, each entry once', async () => {
    const root = makeWorkspace()
    const peers = await Peer.startMany(4)
    const answered = await Promise.all(
      peers.map((peer, number) =>
        peer.run(
          async ({ driftlock }, { root, number }) => {
            const ledger = new driftlock.PhaseLedger(root)
            await ledger.initialize()
            const ids: string[] = []
            // Half of them one after the other, half at once.
            for (let i = 0; i < 50; i++)
              ids.push(
                (await ledger.appendTransition(`P${number}`, null, 'SPEC', [`${i}`], true, { personaHash: 'p' }))
                  .entry_id,
              )
            const rest = Array.from({ length: 50 }, (_, i) =>
              ledger.appendTransition(`P${number}`, 'SPEC', 'PLAN', [`${50 + i}`], true),
            )
            return [...ids, ...(await Promise.all(rest)).map(({ entry_id }) => entry_id)]
          },
          { root, number },
        ),
      ),
    )
    const lines = readLines(ledgerPath(root))
    expect(lines).toHaveLength(400)
    expect(new Set(lines.map(({ entry_id }) => entry_id))).toEqual(new Set(answered.flat()))
    let previous = 'genesis'
    for (const line of lines) {
      expect(line.previous_hash).toBe(previous)
      expect(line.entry_hash).toBe(entryHash(line))
      previous = line.entry_hash
    }
    const ledger = new PhaseLedger(root)
    expect(await ledger.verify()).toMatchObject({ valid: true, entries_checked: 400 })
    for (let number = 0; number < 4; number++)
      expect(
        (await ledger.getTaskHistory(`P${number}`)).map(({ evidence_artifacts }) => evidence_artifacts[0]),
      ).toEqual(Array.from({ length: 100 }, (_, i) => `${i}`))
  })

  test('each sees at once what another one appended', async () => {
    const root = makeWorkspace()
    const ledger = new PhaseLedger(root)
    await ledger.initialize()
    const peer = await Peer.start()
    for (let i = 0; i < 10; i++) {
      const theirs = await peer.run(async ({ driftlock, kept }, root) => {
        kept.ledger ??= new driftlock.PhaseLedger(root)
        return (await kept.ledger.appendTransition('T', null, 'SPEC', [], true)) as { entry_hash: string }
      }, root)
      expect((await ledger.getStats()).lastHash).toBe(theirs.entry_hash)
      const ours = await ledger.appendTransition('T', 'SPEC', 'PLAN', [], true)
      expect(ours.previous_hash).toBe(theirs.entry_hash)
      expect(await peer.run(({ kept }) => kept.ledger.getCurrentPhase('T') as Promise<string>)).toBe('PLAN')
    }
    expect(await ledger.getTaskHistory('T')).toHaveLength(20)
  })

  test('killed amid its appends: the chain goes on', async () => {
    const root = makeWorkspace()
    const ledger = new PhaseLedger(root)
    await ledger.initialize()
    for (let round = 0; round < 4; round++) {
      const peer = await Peer.start()
      peer
        .run(
          async ({ driftlock }, { root, round }) => {
            const ledger = new driftlock.PhaseLedger(root)
            for (;;) await ledger.appendTransition(`R${round}`, null, 'SPEC', [], true)
          },
          { root, round },
        )
        .catch(() => {})
      while ((await ledger.getTaskHistory(`R${round}`)).length < 30 + round * 7)
        await new Promise((resolve) => setTimeout(resolve, 1))
      await peer.kill()
      await ledger.appendTransition('AFTER', null, 'SPEC', [], true)
    }
    expect(await ledger.getTaskHistory('AFTER')).toHaveLength(4)
    expect(await ledger.verify()).toMatchObject({ valid: true })
  })
})
