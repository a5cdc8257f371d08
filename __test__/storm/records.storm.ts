import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { PhaseLedger, PromptAttestationManager } from '../../index.js'
import { Peer } from '../helpers/peer.js'
import { makeSpec } from '../helpers/shapes.js'
import { attestationsPath, baselinesPath, ledgerPath, makeWorkspace, processPath } from '../helpers/workspace.js'
import { checkAttestations, checkLedger } from './records.js'
import { scaled, tell } from './weather.js'

/** Problems of many, shortened: thousands of lines help nobody. */
const some = (problems: string[]): string[] => problems.slice(0, 20)

const expectation = (tasks: string[], phases: string[], count: number): Map<string, number> =>
  new Map(tasks.flatMap((task) => phases.map((phase) => [`${task}:${phase}`, count] as const)))

const numbered = (count: number, prefix = 'T'): string[] => Array.from({ length: count }, (_, i) => `${prefix}${i}`)

describe('attestations', () => {
  test('1,000 at once in one process, by two managers', async () => {
    const root = makeWorkspace()
    const managers = [new PromptAttestationManager(root), new PromptAttestationManager(root)]
    const start = performance.now()
    const answers = await Promise.all(numbered(1000).map((taskId, i) => managers[i % 2]!.attest(makeSpec({ taskId }))))
    tell(`attestations, 1,000 at once in one process: ${(performance.now() - start).toFixed(0)} ms`)
    expect(answers.filter(({ error, hasDrift, baselineHash }) => error ?? baselineHash ?? hasDrift)).toEqual([])
    expect(some(checkAttestations(root, expectation(numbered(1000), ['IMPLEMENT'], 1)))).toEqual([])
  })

  test('8 processes with 1,000 new tasks each, all at once', async () => {
    const root = makeWorkspace()
    const peers = await Peer.startMany(8)
    const start = performance.now()
    const failures = await Promise.all(
      peers.map((peer, number) =>
        peer.run(
          async ({ driftlock }, { root, number, spec }) => {
            const manager = new driftlock.PromptAttestationManager(root)
            const specs = Array.from({ length: 1000 }, (_, i) => ({ ...spec, taskId: `P${number}-${i}` }))
            const answers = await Promise.all(specs.map((spec) => manager.attest(spec)))
            return answers.filter(({ error, hasDrift, baselineHash }) => error ?? baselineHash ?? hasDrift).slice(0, 10)
          },
          { root, number, spec: makeSpec() },
        ),
      ),
    )
    tell(`attestations, 8 processes × 1,000 at once: ${Math.round(8000 / ((performance.now() - start) / 1000))}/s`)
    expect(failures.flat()).toEqual([])
    const tasks = peers.flatMap((_, number) => numbered(1000, `P${number}-`))
    expect(some(checkAttestations(root, expectation(tasks, ['IMPLEMENT'], 1)))).toEqual([])
  })

  test.each(['at once', 'one after the other'])(
    '8 processes on the same 50 tasks, %s: each has one first',
    async (manner) => {
      const root = makeWorkspace()
      const phases = ['SPEC', 'IMPLEMENT', 'VERIFY']
      const rounds = scaled(20, 5)
      const peers = await Peer.startMany(8)
      const answers = await Promise.all(
        peers.map((peer, number) =>
          peer.run(
            async ({ driftlock }, { root, spec, phases, rounds, atOnce }) => {
              const manager = new driftlock.PromptAttestationManager(root)
              const answers: { key: string; baselineHash?: string; currentHash: string; error?: string }[] = []
              for (let round = 0; round < rounds; round++) {
                const attest = async (i: number, phase: string): Promise<void> => {
                  const { baselineHash, currentHash, error } = await manager.attest({ ...spec, phase, taskId: `T${i}` })
                  answers.push({ key: `T${i}:${phase}`, baselineHash, currentHash, error })
                }
                const all: Promise<void>[] = []
                for (const phase of phases) {
                  for (let i = 0; i < 50; i++) {
                    const answer = attest(i, phase)
                    if (atOnce) all.push(answer)
                    else await answer
                  }
                }
                await Promise.all(all)
              }
              return answers
            },
            // Each process has a prompt of its own, so that two firsts would differ.
            { root, phases, rounds, atOnce: manner === 'at once', spec: makeSpec({ contextSummary: `${number}` }) },
          ),
        ),
      )
      expect(answers.flat().filter(({ error }) => error !== undefined)).toEqual([])
      const firsts = answers.flat().filter(({ baselineHash }) => baselineHash === undefined)
      expect(firsts.map(({ key }) => key).sort()).toEqual([...expectation(numbered(50), phases, 1).keys()].sort())
      expect(some(checkAttestations(root, expectation(numbered(50), phases, 8 * rounds)))).toEqual([])
      const baselines = JSON.parse(readFileSync(baselinesPath(root), 'utf8')) as Record<string, { hash: string }>
      for (const { key, currentHash } of firsts) expect(baselines[key]?.hash).toBe(currentHash)
    },
  )

  test('kept without a lock, as it was once done, they fail these checks', async () => {
    const root = makeWorkspace()
    mkdirSync(processPath(root), { recursive: true })
    writeFileSync(baselinesPath(root), '{}')
    writeFileSync(attestationsPath(root), '')
    const peers = await Peer.startMany(4)
    await Promise.all(
      peers.map((peer) =>
        peer.run(
          async ({ require }, { log, baselines }) => {
            const fs = require('node:fs') as typeof import('node:fs')
            for (let i = 0; i < 50; i++) {
              let known: Record<string, { hash: string }> = {}
              try {
                known = JSON.parse(await fs.promises.readFile(baselines, 'utf8'))
              } catch {}
              const [key, hash] = [`T${i}:SPEC`, `${process.pid}`]
              const baseline_hash = known[key]?.hash
              const drift_detected = baseline_hash !== undefined && baseline_hash !== hash
              const record = {
                attestation_id: `${i}-${hash}`,
                task_id: `T${i}`,
                phase: 'SPEC',
                prompt_hash: hash,
                baseline_hash,
                drift_detected,
              }
              await fs.promises.appendFile(log, `${JSON.stringify(record)}\n`)
              if (!baseline_hash) await fs.promises.writeFile(baselines, JSON.stringify({ ...known, [key]: { hash } }))
            }
          },
          { log: attestationsPath(root), baselines: baselinesPath(root) },
        ),
      ),
    )
    expect(checkAttestations(root, expectation(numbered(50), ['SPEC'], 4)).join()).toMatch(/has \d+ first records/)
  })

  test('these checks find each thing that can be wrong', async () => {
    const root = makeWorkspace()
    const manager = new PromptAttestationManager(root)
    for (const contextSummary of ['a', 'b'])
      for (const taskId of ['T0', 'T1']) await manager.attest(makeSpec({ taskId, contextSummary }))
    const log = readFileSync(attestationsPath(root), 'utf8')
    const baselines = readFileSync(baselinesPath(root), 'utf8')
    const expected = expectation(['T0', 'T1'], ['IMPLEMENT'], 2)
    const lines = log.split('\n')
    const check = (newLog: string, newBaselines: string): string => {
      writeFileSync(attestationsPath(root), newLog)
      writeFileSync(baselinesPath(root), newBaselines)
      return checkAttestations(root, expected).join('; ')
    }
    expect(check(log, baselines)).toBe('')
    expect(check(log.slice(0, -1), baselines)).toContain('not complete')
    expect(check(log.replace('\n{', '\n{"half\n{'), baselines)).toContain('not JSON')
    expect(check(lines.toSpliced(2, 1).join('\n'), baselines)).toContain('T0:IMPLEMENT has 1 records')
    expect(check(lines.toSpliced(2, 1, lines[0]!).join('\n'), baselines)).toContain('2 first records')
    expect(check(lines.toSpliced(2, 1, lines[0]!).join('\n'), baselines)).toContain('an id comes twice')
    expect(check([lines[2], lines[1], lines[0], lines[3], ''].join('\n'), baselines)).toContain('not in front')
    expect(check(log.replace('"drift_detected":true', '"drift_detected":false'), baselines)).toContain('missed')
    expect(check(log, baselines.replace(/"hash":"..../, '"hash":"0000'))).toContain('the baseline of T0')
    expect(check(log, '{}')).toContain('the baseline of T1')
    expect(check(log, baselines.slice(0, -3))).toContain('not JSON')
    expect(check(log.replace('"T1"', '"T2"'), baselines)).toContain('nobody attested T2')
  })
})

describe('the ledger', () => {
  test('8 processes with 500 appends each: one chain, each entry once', async () => {
    const root = makeWorkspace()
    const peers = await Peer.startMany(8)
    const start = performance.now()
    const all = await Promise.all(
      peers.map((peer, number) =>
        peer.run(
          async ({ driftlock }, { root, number }) => {
            // Two instances, half of the appends at once: each of the three once broke the chain.
            const ledgers = [new driftlock.PhaseLedger(root), new driftlock.PhaseLedger(root)] as const
            const hashes: string[] = []
            const append = async (i: number): Promise<void> => {
              const ledger = ledgers[i % 2 ? 0 : 1]
              const { entry_hash } = await ledger.appendTransition(`P${number}-${i}`, null, 'SPEC', ['a', 'b'], true, {
                personaHash: 'p',
              })
              hashes.push(entry_hash)
            }
            for (let i = 0; i < 250; i++) await append(i)
            await Promise.all(Array.from({ length: 250 }, (_, i) => append(250 + i)))
            return hashes
          },
          { root, number },
        ),
      ),
    )
    tell(`ledger, 8 processes × 500: ${Math.round(4000 / ((performance.now() - start) / 1000))} appends/s`)
    expect(
      some(
        checkLedger(
          root,
          peers.flatMap((_, number) => numbered(500, `P${number}-`)),
        ),
      ),
    ).toEqual([])
    const hashes = new Set(readFileSync(ledgerPath(root), 'utf8').match(/(?<="entry_hash":")\w+/g))
    expect(all.flat().filter((hash) => !hashes.has(hash))).toEqual([])
    expect(await new PhaseLedger(root).verify()).toEqual({ valid: true, entries_checked: 4000 })
  })

  test('these checks find each thing that can be wrong', async () => {
    const root = makeWorkspace()
    const ledger = new PhaseLedger(root)
    for (const task of numbered(4)) await ledger.appendTransition(task, null, 'SPEC', [], true)
    const good = readFileSync(ledgerPath(root), 'utf8')
    const lines = good.split('\n')
    const check = (text: string): string => {
      writeFileSync(ledgerPath(root), text)
      return checkLedger(root, numbered(4)).join('; ')
    }
    expect(check(good)).toBe('')
    expect(check(lines.toSpliced(1, 1).join('\n'))).toContain('entry 1 does not follow')
    expect(check(lines.toSpliced(1, 1).join('\n'))).toContain('T1 is missing')
    expect(check(lines.toSpliced(1, 0, lines[0]!).join('\n'))).toContain('T0 comes twice')
    expect(check([lines[0], lines[2], lines[1], lines[3], ''].join('\n'))).toContain('entry 1 does not follow')
    expect(check(good.replace('"SPEC"', '"PLAN"'))).toContain('the hash of entry 0 is wrong')
    expect(check(good.slice(0, -20))).toContain('not complete')
    expect(check(good.replace('\n{', '\n{{'))).toContain('line 2')
  })

  test('kept by instances that know only their own last hash, as it was once done, it fails', async () => {
    const root = makeWorkspace()
    mkdirSync(processPath(root), { recursive: true })
    const peers = await Peer.startMany(2)
    await Promise.all(
      peers.map((peer) =>
        peer.run(({ require }, path) => {
          const fs = require('node:fs') as typeof import('node:fs')
          let previous_hash = 'genesis'
          for (let i = 0; i < 10; i++) {
            const entry_hash = `${process.pid}-${i}`
            fs.appendFileSync(path, `${JSON.stringify({ entry_id: entry_hash, previous_hash, entry_hash })}\n`)
            previous_hash = entry_hash
          }
        }, ledgerPath(root)),
      ),
    )
    expect(checkLedger(root).join()).toContain('does not follow')
  })
})
