import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import { runScript } from './helpers/peer.js'

const isLinux = process.platform === 'linux'
let folder = ''

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'driftlock-shim-'))
  const source = join(__dirname, '..', 'tests', 'faults', 'shim.c')
  if (isLinux)
    execFileSync('cc', ['-shared', '-fPIC', '-O1', '-o', join(folder, 'shim.so'), source, '-ldl', '-lpthread'])
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

// The numbers are those of the shim's classes.
test.skipIf(!isLinux).each([
  ['open', 0, 24],
  ['write', 1, 28],
  ['rename', 3, 122],
  ['sync', 4, 5],
  ['mkdir', 5, 30],
  ['stat', 9, 5],
])(
  'whichever %s fails, each call answers in its documented shape',
  async (_, kind, errno) => {
    // Where there is one, in a folder whose syncs cost nothing.
    const root = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'driftlock-faults-'))
    onTestFinished(() => rmSync(root, { recursive: true, force: true }))
    const control = join(folder, `control-${kind}`)
    writeFileSync(control, Buffer.alloc(4096))
    const env = {
      LD_PRELOAD: join(folder, 'shim.so'),
      FAULT_FOLDER: root,
      FAULT_CONTROL: control,
      DRIFTLOCK_LOG: 'silent',
    }
    const ended = await runScript(
      async ({ driftlock, require }, { root, control, kind, errno }) => {
        const { openSync, readSync, writeSync } = require('node:fs') as typeof import('node:fs')
        const assert: typeof import('node:assert') = require('node:assert')
        const file = openSync(control, 'r+')
        const set = (...words: number[]) => writeSync(file, Int32Array.from(words), 0, words.length * 4, 0)
        const failed = () => {
          const word = new Int32Array(1)
          readSync(file, word, 0, 4, 16)
          return word[0] ?? 0
        }
        const spec = (taskId: string, contextSummary: string) => ({
          phase: 'VERIFY',
          taskId,
          timestamp: '',
          requirements: [],
          qualityGates: [],
          artifacts: [],
          contextSummary,
        })
        const named = ({ code, message }: { code?: string; message: string }) =>
          assert.ok(['IO', 'DATABASE'].includes(code ?? '') && message.includes(root), `${code} ${message}`)
        let points = 0
        for (const durability of ['process', 'sync'] as const) {
          for (let after = 0, isOver = false; !isOver; after++) {
            const workspace = `${root}/${durability}-${after}`
            set(1 << kind, after, 1, errno, 0)
            const prompts = new driftlock.PromptAttestationManager(workspace, { durability })
            const ledger = new driftlock.PhaseLedger(workspace, { durability })
            await prompts.initialize().catch(named)
            await ledger.initialize().catch(named)
            for (const context of ['1', '2']) {
              const answer = await prompts.attest(spec('T', context))
              assert.match(answer.currentHash, /^[0-9a-f]{64}$/)
              if (answer.error) named({ code: answer.errorCode, message: answer.error })
            }
            await prompts.resetBaseline('T', 'VERIFY', 'a').catch(named)
            await ledger.appendTransition('T', null, 'PLAN', [], true).catch(named)
            let leases: InstanceType<typeof driftlock.PhaseLeaseManager> | undefined
            try {
              leases = new driftlock.PhaseLeaseManager(workspace, { durability })
            } catch (error) {
              named(error as { code: string; message: string })
            }
            const lease = await leases?.acquireLease('T', 'PLAN')
            if (lease && !lease.acquired) assert.match(lease.reason ?? '', /^Internal error: ./)
            const renewal = await leases?.renewLease('T', 'PLAN')
            if (renewal && !renewal.renewed) assert.match(renewal.reason ?? '', /^(Internal error: .|Lease not held)/)
            const lock = `${workspace}/a.lock`
            const acquired = await driftlock.acquireLock(lock, { timeout: 0 })
            await driftlock.releaseLock(lock)
            isOver = failed() === 0
            set(0, 0, 0, 0, 0)
            points++
            assert.ok(acquired || !isOver)
            // Now that nothing fails, everything works.
            assert.equal((await prompts.attest(spec('NEW', '1'))).error, undefined)
            await ledger.appendTransition('T', null, 'PLAN', [], true)
            assert.ok((await ledger.verify()).valid)
            leases ??= new driftlock.PhaseLeaseManager(workspace, { durability })
            assert.ok((await leases.acquireLease('NEW', 'PLAN')).acquired)
            assert.ok(await driftlock.acquireLock(lock, { timeout: 0 }))
            await driftlock.releaseLock(lock)
            leases.close()
          }
        }
        assert.ok(points > 3, `${points}`)
      },
      { root, control, kind, errno },
      { env, limit: 60_000 },
    )
    expect(ended).toMatchObject({ code: 0, stderr: '' })
  },
  90_000,
)

test.skipIf(!isLinux)('a renewal whose first tries fail is tried again', async () => {
  const root = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'driftlock-faults-'))
  onTestFinished(() => rmSync(root, { recursive: true, force: true }))
  const control = join(folder, 'control-renewal')
  writeFileSync(control, Buffer.alloc(4096))
  const env = {
    LD_PRELOAD: join(folder, 'shim.so'),
    FAULT_FOLDER: root,
    FAULT_CONTROL: control,
    DRIFTLOCK_LOG: 'silent',
  }
  const ended = await runScript(
    async ({ driftlock, require, sleep }, { root, control }) => {
      const { openSync, readSync, writeSync } = require('node:fs') as typeof import('node:fs')
      const assert: typeof import('node:assert') = require('node:assert')
      const file = openSync(control, 'r+')
      const leases = new driftlock.PhaseLeaseManager(root)
      await leases.acquireLease('T', 'PLAN')
      const set = (...words: number[]) => writeSync(file, Int32Array.from(words), 0, words.length * 4, 0)
      const EIO = 5
      set(1 << 1, 0, 1_000_000, EIO, 0)
      const renewing = leases.renewLease('T', 'PLAN')
      await sleep(50) // The second try follows after 100 ms, the third after 200.
      set(0)
      const renewal = await renewing
      const failed = new Int32Array(1)
      readSync(file, failed, 0, 4, 16)
      assert.ok(failed[0])
      assert.equal(renewal.renewed, true, renewal.reason)
      assert.equal(leases.getLease('T', 'PLAN')?.renewed_count, 1)
    },
    { root, control },
    { env },
  )
  expect(ended).toMatchObject({ code: 0, stderr: '' })
})
