import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import {
  AttestationError,
  acquireLock,
  DriftlockError,
  FileLockError,
  LeaseError,
  LedgerError,
  PhaseLeaseManager,
  PhaseLedger,
  PromptAttestationManager,
  resolveWorkspace,
  setLogger,
  setLogLevel,
  withFileLock,
} from '../index.js'
import { expectRefused, expectRejected, makeSpec } from './helpers/shapes.js'
import { databasePath, makeWorkspace, openDatabase, openLeases } from './helpers/workspace.js'

// biome-ignore lint/suspicious/noExplicitAny: bad arguments are what the types forbid
type Any = any

const noStrings: [string, unknown][] = [
  ['undefined', undefined],
  ['null', null],
  ['a number', 42],
  ['a boolean', true],
  ['an object', { toString: () => 'text' }],
  ['an array', ['text']],
  ['a symbol', Symbol('text')],
  ['a bigint', 1n],
  ['a function', () => 'text'],
  ['a String object', new String('text')],
]
const noOptionalStrings = noStrings.filter(([name]) => name !== 'undefined' && name !== 'null')
const noNumbers: [string, unknown][] = [
  ['text', '5'],
  ['NaN', NaN],
  ['negative', -1],
  ['an object', {}],
  ['a boolean', true],
  ['a bigint', 5n],
  ['minus infinity', -Infinity],
]

// Each unhashable specification is worth a warning; here they would only fill the screen.
beforeAll(() => setLogLevel('silent'))

describe.each([
  ['PhaseLeaseManager', PhaseLeaseManager as Any, LeaseError],
  ['PromptAttestationManager', PromptAttestationManager as Any, AttestationError],
  ['PhaseLedger', PhaseLedger as Any, LedgerError],
])('new %s', (_, Class, kind) => {
  test.each([...noStrings, ['empty', ''], ['with a NUL', '/tmp/a\u0000b']])('workspaceRoot %s', (_, root) => {
    expectRefused(() => new Class(root), 'workspaceRoot', kind)
  })

  test('no argument at all', () => {
    expectRefused(() => new Class(), 'workspaceRoot', kind)
  })
})

describe('new PhaseLeaseManager: options', () => {
  test.each([
    ...[...noNumbers, ['zero', 0], ['infinity', Infinity]].map(
      ([name, value]) => ['leaseDuration', name, value] as const,
    ),
    ...[...noNumbers, ['a fraction', 1.5]].map(([name, value]) => ['maxRenewals', name, value] as const),
    ...[...noOptionalStrings, ['empty', '']].map(([name, value]) => ['agentId', name, value] as const),
  ])('%s %s', (option, _, value) => {
    const root = makeWorkspace()
    expectRefused(() => new PhaseLeaseManager(root, { [option as string]: value } as Any), option as string, LeaseError)
    expect(readdirSync(root)).toEqual([])
  })

  test.each([
    ['text', 'x'],
    ['a number', 5],
    ['a boolean', true],
  ])('options %s', (_, options) => {
    const root = makeWorkspace()
    expectRefused(() => new PhaseLeaseManager(root, options as Any), 'options', LeaseError)
    expect(readdirSync(root)).toEqual([])
  })

  test('the message says what was wanted and what was given', () => {
    expect(() => new PhaseLeaseManager(makeWorkspace(), { leaseDuration: NaN })).toThrow(
      /^leaseDuration must be a number of seconds greater than 0\b.*, got NaN$/,
    )
  })
})

describe('PhaseLeaseManager: methods', () => {
  const methods = ['acquireLease', 'renewLease', 'releaseLease', 'holdsLeaseAsync', 'getLeaseAsync'] as const

  test.each(methods.flatMap((method) => noStrings.map(([name, value]) => [method, name, value] as const)))(
    '%s rejects for %s',
    async (method, _, value) => {
      const root = makeWorkspace()
      const manager: Any = openLeases(root)
      await expectRejected(() => manager[method](value, 'SPEC'), 'taskId', LeaseError)
      await expectRejected(() => manager[method]('T', value), 'phase', LeaseError)
      expect(openDatabase(root).prepare('SELECT count(*) FROM phase_leases').pluck().get()).toBe(0)
    },
  )

  const badOptions: [string, string, unknown][] = [
    ...['waitMs', 'maxHoldMs', 'progressMs'].flatMap((option) =>
      noNumbers.map(([name, value]): [string, string, unknown] => [option, name, { [option]: value }]),
    ),
    ...noOptionalStrings.map(([name, signal]): [string, string, unknown] => ['signal', name, { signal }]),
    ['signal', 'null', { signal: null }],
    ['options', 'text', 'x'],
    ['options', 'a number', 5],
    ['options', 'a boolean', true],
  ]
  const badKeys: [string, string, unknown][] = [
    ...noStrings
      .filter(([name]) => name !== 'an array')
      .map(([name, keys]): [string, string, unknown] => ['keys', name, keys]),
    ['keys', 'an empty list', []],
    ['keys', 'text', 'TP'],
    [
      'keys',
      'a key twice',
      [
        { taskId: 'T', phase: 'PLAN' },
        { taskId: 'T', phase: 'PLAN' },
      ],
    ],
    ...['text', 5, null, undefined].map((key): [string, string, unknown] => ['keys', `a list with ${key}`, [key]]),
    ...noStrings.flatMap(([name, value]): [string, string, unknown][] => [
      [
        'taskId',
        name,
        [
          { taskId: 'T', phase: 'PLAN' },
          { taskId: value, phase: 'SPEC' },
        ],
      ],
      [
        'phase',
        name,
        [
          { taskId: 'T', phase: 'PLAN' },
          { taskId: 'T', phase: value },
        ],
      ],
    ]),
  ]

  test.each(noStrings)('hold rejects for %s', async (_, value) => {
    const manager: Any = openLeases(makeWorkspace())
    await expectRejected(() => manager.hold(value, 'SPEC'), 'taskId', LeaseError)
    await expectRejected(() => manager.hold('T', value), 'phase', LeaseError)
    expect(await manager.listLeases()).toEqual([])
  })

  test.each(badOptions)('hold, holdMany and advance reject for %s %s', async (argument, _, options) => {
    const manager: Any = openLeases(makeWorkspace())
    const lease = await manager.hold('T', 'SPEC')
    await expectRejected(() => manager.hold('T', 'PLAN', options), argument, LeaseError)
    await expectRejected(() => manager.holdMany([{ taskId: 'T', phase: 'PLAN' }], options), argument, LeaseError)
    await expectRejected(() => lease.advance('PLAN', options), argument, LeaseError)
    expect(lease.remainingMs()).toBeGreaterThan(0)
    expect(await manager.listLeases()).toMatchObject([{ lease: { phase: 'SPEC' } }])
  })

  test.each(badKeys)('holdMany rejects for %s %s', async (argument, _, keys) => {
    const manager: Any = openLeases(makeWorkspace())
    await expectRejected(() => manager.holdMany(keys), argument, LeaseError)
    expect(await manager.listLeases()).toEqual([])
  })

  test.each(noStrings)('advance and advanceLease reject for %s', async (_, value) => {
    const manager: Any = openLeases(makeWorkspace())
    const lease = await manager.hold('T', 'SPEC')
    await expectRejected(() => lease.advance(value), 'phase', LeaseError)
    await expectRejected(() => manager.advanceLease(value, 'SPEC', 'PLAN'), 'taskId', LeaseError)
    await expectRejected(() => manager.advanceLease('T', value, 'PLAN'), 'from', LeaseError)
    await expectRejected(() => manager.advanceLease('T', 'SPEC', value), 'to', LeaseError)
    expect(lease.remainingMs()).toBeGreaterThan(0)
    expect(await manager.listLeases()).toMatchObject([{ lease: { phase: 'SPEC' } }])
  })

  test('advanceLease rejects for a phase that is the same', async () => {
    const manager = openLeases(makeWorkspace())
    await manager.acquireLease('T', 'SPEC')
    await expectRejected(() => manager.advanceLease('T', 'SPEC', 'SPEC'), 'to', LeaseError)
    expect(manager.holdsLease('T', 'SPEC')).toBe(true)
  })

  test.each(noStrings)('holdsLease and getLease answer for %s', (_, value) => {
    const manager: Any = openLeases(makeWorkspace())
    expect(manager.holdsLease(value, 'SPEC')).toBe(false)
    expect(manager.holdsLease('T', value)).toBe(false)
    expect(manager.getLease(value, 'SPEC')).toBeNull()
    expect(manager.getLease('T', value)).toBeNull()
  })
})

describe('PromptAttestationManager', () => {
  test.each(
    ['phase', 'taskId', 'contextSummary', 'requirements', 'qualityGates', 'artifacts'].flatMap((field) =>
      noStrings
        .filter(([name]) => name !== 'an array' || !['requirements', 'qualityGates', 'artifacts'].includes(field))
        // JSON.stringify leaves an undefined text out and writes a null one as null: such a hash is no less true.
        .filter(([name]) => field !== 'contextSummary' || (name !== 'undefined' && name !== 'null'))
        .map(([name, value]) => [field, name, value] as const),
    ),
  )('attest answers for %s %s', async (field, _, value) => {
    await expectUnhashable({ ...makeSpec(), [field]: value })
  })

  test.each(
    ['requirements', 'qualityGates', 'artifacts'].flatMap((list) =>
      noStrings.map(([name, value]) => [list, name, value] as const),
    ),
  )('attest answers for %s with %s in it', async (list, _, value) => {
    await expectUnhashable({ ...makeSpec(), [list]: ['text', value] })
  })

  test.each(
    ['personaHash', 'agentType', 'modelVersion'].flatMap((field) =>
      noOptionalStrings.map(([name, value]) => [field, name, value] as const),
    ),
  )('attest answers for %s %s', async (field, _, value) => {
    await expectUnhashable({ ...makeSpec(), [field]: value })
  })

  test.each([...noStrings, ['text', 'spec'], ['an empty object', {}]])(
    'attest answers for a spec that is %s',
    async (_, spec) => {
      await expectUnhashable(spec)
    },
  )

  test('attest answers for a field that throws', async () => {
    const spec = makeSpec()
    Object.defineProperty(spec, 'taskId', {
      get: () => {
        throw new Error('no')
      },
    })
    await expectUnhashable(spec)
  })

  test('attest answers for a phase with a colon', async () => {
    const root = makeWorkspace()
    const manager = new PromptAttestationManager(root)
    const answer = await manager.attest(makeSpec({ phase: 'A:B' as Any }))
    expect(answer).toMatchObject({ hasDrift: false, severity: 'none', personaDrift: false, error: expect.any(String) })
    expect(answer.baselineHash).toBeUndefined()
    expect(readdirSync(root)).toEqual([])
  })

  test.each(noStrings)('getAttestationHistory rejects for %s', async (_, value) => {
    const manager: Any = new PromptAttestationManager(makeWorkspace())
    await expectRejected(() => manager.getAttestationHistory(value), 'taskId', AttestationError)
  })

  test.each(noStrings)('resetBaseline rejects for %s', async (_, value) => {
    const root = makeWorkspace()
    const manager: Any = new PromptAttestationManager(root)
    await expectRejected(() => manager.resetBaseline(value, 'SPEC', 'hash'), 'taskId', AttestationError)
    await expectRejected(() => manager.resetBaseline('T', value, 'hash'), 'phase', AttestationError)
    await expectRejected(() => manager.resetBaseline('T', 'SPEC', value), 'newHash', AttestationError)
    expect(readdirSync(root)).toEqual([])
  })

  test.each(
    ['updatedBy', 'reason', 'versionTag', 'timestamp'].flatMap((option) =>
      noOptionalStrings.map(([name, value]) => [option, name, value] as const),
    ),
  )('resetBaseline rejects for %s %s', async (option, _, value) => {
    const root = makeWorkspace()
    const manager: Any = new PromptAttestationManager(root)
    await expectRejected(
      () => manager.resetBaseline('T', 'SPEC', 'hash', { [option]: value }),
      option,
      AttestationError,
    )
    expect(readdirSync(root)).toEqual([])
  })

  test('resetBaseline rejects for a phase with a colon', async () => {
    const manager: Any = new PromptAttestationManager(makeWorkspace())
    await expectRejected(() => manager.resetBaseline('T', 'A:B', 'hash'), 'phase', AttestationError)
  })

  /** Fails open: an answer, an error in it, and nothing on disk. */
  async function expectUnhashable(spec: unknown): Promise<void> {
    const root = makeWorkspace()
    const promise = (new PromptAttestationManager(root) as Any).attest(spec)
    expect(promise).toBeInstanceOf(Promise)
    const { error, ...answer } = await promise
    expect(answer).toMatchObject({ hasDrift: false, currentHash: '', severity: 'none', personaDrift: false })
    expect(error).toEqual(expect.stringMatching(/./))
    expect(readdirSync(root)).toEqual([])
  }
})

describe('PhaseLedger', () => {
  const good = ['T', null, 'SPEC', ['a'], true, {}] as const
  const cases: [number, string, [string, unknown][]][] = [
    [0, 'taskId', noStrings],
    [1, 'fromPhase', noOptionalStrings],
    [2, 'toPhase', noStrings],
    [
      3,
      'evidenceArtifacts',
      [...noStrings.filter(([name]) => name !== 'an array'), ['text', 'a'], ['a list with a number', ['a', 1]]],
    ],
    [4, 'evidenceValidated', [...noStrings.filter(([name]) => name !== 'a boolean'), ['text', 'true']]],
    [
      5,
      'metadata',
      [
        ['text', 'x'],
        ['a number', 5],
        ['a boolean', true],
      ],
    ],
    [5, 'agentType', noOptionalStrings.map(([name, agentType]) => [name, { agentType }])],
    [5, 'personaHash', noOptionalStrings.map(([name, personaHash]) => [name, { personaHash }])],
    [
      5,
      'durationMs',
      [
        ['text', { durationMs: '5' }],
        ['an object', { durationMs: {} }],
        ['a bigint', { durationMs: 5n }],
      ],
    ],
  ]

  test.each(
    cases.flatMap(([at, argument, values]) => values.map(([name, value]) => [argument, name, at, value] as const)),
  )('appendTransition rejects for %s %s', async (argument, _, at, value) => {
    const root = makeWorkspace()
    const ledger: Any = new PhaseLedger(root)
    await expectRejected(
      () => ledger.appendTransition(...Object.assign([...good], { [at]: value })),
      argument,
      LedgerError,
    )
    expect(readdirSync(root)).toEqual([])
  })

  test.each(noStrings)('getTaskHistory and getCurrentPhase answer with a Promise for %s', async (_, value) => {
    const ledger: Any = new PhaseLedger(makeWorkspace())
    for (const method of ['getTaskHistory', 'getCurrentPhase']) {
      const answer = ledger[method](value)
      expect(answer).toBeInstanceOf(Promise)
      const outcome = await answer.catch((error: Error) => error)
      expect(outcome === null || Array.isArray(outcome) || outcome instanceof LedgerError).toBe(true)
    }
  })
})

describe('file locks', () => {
  const badOptions = [
    ...['timeout', 'retryDelay', 'maxRetries'].flatMap((option) =>
      noNumbers.map(([name, value]) => [option, name, { [option]: value }] as const),
    ),
    ['options', 'text', 'x'] as const,
    ['options', 'a number', 5] as const,
  ]

  test.each(badOptions)('for %s %s', async (argument, _, options) => {
    const root = makeWorkspace()
    const path = join(root, 'folder', 'lock')
    expect(await (acquireLock as Any)(path, options)).toBe(false)
    let ran = false
    await expectRejected(
      () =>
        (withFileLock as Any)(
          path,
          () => {
            ran = true
          },
          options,
        ),
      argument,
      FileLockError,
    )
    expect(ran).toBe(false)
    expect(readdirSync(root)).toEqual([])
  })

  test.each([...noStrings, ['empty', ''], ['with a NUL', '/tmp/a\u0000b']])(
    'for a path that is %s',
    async (_, path) => {
      expect(await (acquireLock as Any)(path, { timeout: 0 })).toBe(false)
      await expectRejected(() => (withFileLock as Any)(path, () => 1), 'lockPath', FileLockError)
    },
  )

  test.each(noStrings.filter(([name]) => name !== 'a function'))(
    'for an operation that is %s',
    async (_, operation) => {
      const root = makeWorkspace()
      await expectRejected(() => (withFileLock as Any)(join(root, 'lock'), operation), 'operation', FileLockError)
      expect(readdirSync(root)).toEqual([])
    },
  )
})

describe('resolveWorkspace', () => {
  test.each([...noStrings, ['empty', ''], ['with a NUL', '/tmp/a\u0000b']])('refuses %s', (_, path) => {
    expectRefused(() => (resolveWorkspace as Any)(path), 'path', DriftlockError)
  })
})

describe('logging', () => {
  test.each([
    ['a number', 5],
    ['text', 'x'],
    ['an object', {}],
  ])('setLogger refuses %s', (_, logger) => {
    expectRefused(() => (setLogger as Any)(logger), '')
  })

  test.each([
    ['a number', 5],
    ['an unknown level', 'loud'],
    ['null', null],
    ['capitals', 'INFO'],
  ])('setLogLevel refuses %s', (_, level) => {
    expectRefused(() => (setLogLevel as Any)(level), '')
  })
})

describe('missing folders', () => {
  test('state/ is made, and the workspace too if need be', async () => {
    const root = join(makeWorkspace(), 'deep', 'down')
    expect((await openLeases(root).acquireLease('T', 'SPEC')).acquired).toBe(true)
    expect(existsSync(databasePath(root))).toBe(true)
  })
})
