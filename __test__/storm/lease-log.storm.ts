import { describe, expect, test } from 'vitest'
import { type Call, checkLeases, parseCalls } from './lease-log.js'

const MS = 1_000_000

/** A call in milliseconds; leases last 100 ms. */
const call = (
  agent: string,
  op: Call['op'],
  invoked: number,
  answered: number | undefined,
  answer?: string,
  token?: number,
): Call => ({
  agent,
  op,
  key: 'K',
  duration: 100 * MS,
  invoked: invoked * MS,
  answered: answered === undefined ? undefined : answered * MS,
  answer,
  token,
})

const acquired = (agent: string, invoked: number, answered: number, token: number): Call =>
  call(agent, 'acquire', invoked, answered, 'yes', token)
const other = (call: Call): Call => ({ ...call, key: 'L' })

describe('the check of lease logs lets pass', () => {
  test.each<[string, Call[]]>([
    ['nothing at all', []],
    ['one after the other', [acquired('a', 0, 1, 1), call('a', 'release', 2, 3, 'yes'), acquired('b', 4, 5, 2)]],
    [
      'the next as soon as the release has begun',
      [acquired('a', 0, 10, 1), call('a', 'release', 20, 40, 'yes'), acquired('b', 15, 30, 2)],
    ],
    ['the next one duration after the request', [acquired('a', 0, 50, 1), acquired('b', 60, 100, 2)]],
    [
      'the next at the end of a renewed lease',
      [acquired('a', 0, 1, 1), call('a', 'renew', 50, 52, 'yes'), acquired('b', 149, 151, 2)],
    ],
    ['an answer that came after the end of the lease', [acquired('a', 0, 300, 1), acquired('b', 150, 200, 2)]],
    [
      'the next after a killed release',
      [acquired('a', 0, 1, 1), call('a', 'release', 2, undefined), acquired('b', 4, 5, 2)],
    ],
    ['the next after a killed acquire', [call('a', 'acquire', 0, undefined), acquired('b', 4, 5, 2)]],
    [
      'tokens of calls at the same time in any order',
      [acquired('a', 0, 10, 2), call('a', 'release', 11, 12, 'yes'), acquired('b', 5, 20, 1)],
    ],
    ['other keys', [acquired('a', 0, 1, 1), other(acquired('b', 2, 3, 2))]],
    [
      'a late renewal',
      [acquired('a', 0, 1, 1), call('a', 'renew', 150, 151, 'yes'), call('a', 'holds', 152, 152, 'yes')],
    ],
    [
      'a renewal refused after the end',
      [acquired('a', 0, 1, 1), acquired('b', 101, 102, 2), call('a', 'renew', 150, 151, 'no')],
    ],
    ['a refusal while somebody has it', [acquired('a', 0, 1, 1), call('b', 'acquire', 50, 51, 'no')]],
    [
      'a refusal while a killed one may have it',
      [{ ...call('a', 'acquire', 0, undefined), died: 5 * MS }, call('b', 'acquire', 104, 105, 'no')],
    ],
    ['a hold denied after its end', [acquired('a', 0, 1, 1), call('a', 'holds', 101, 101, 'no')]],
  ])('%s', (_, calls) => {
    expect(checkLeases(calls)).toEqual([])
  })
})

describe('the check of lease logs finds', () => {
  test.each<[string, Call[], RegExp]>([
    ['two who hold a key', [acquired('a', 0, 1, 1), acquired('b', 2, 3, 2)], /at once/],
    ['two who asked at the same time', [acquired('a', 0, 5, 1), acquired('b', 1, 4, 2)], /at once/],
    ['one who acquires twice', [acquired('a', 0, 1, 1), acquired('a', 2, 3, 2)], /at once/],
    ['one who came just before the end', [acquired('a', 0, 1, 1), acquired('b', 90, 98, 2)], /at once/],
    [
      'one who came amid a renewed lease',
      [acquired('a', 0, 1, 1), call('a', 'renew', 50, 52, 'yes'), acquired('b', 120, 121, 2)],
      /at once/,
    ],
    [
      'a renewal in spite of a new holder',
      [acquired('a', 0, 1, 1), acquired('b', 110, 111, 2), call('a', 'renew', 150, 151, 'yes')],
      /at once/,
    ],
    [
      'one whose lease was over at the answer, within another',
      [
        acquired('a', 0, 1, 1),
        call('a', 'renew', 90, 91, 'yes'),
        call('a', 'renew', 180, 181, 'yes'),
        acquired('b', 10, 200, 2),
      ],
      /at once/,
    ],
    [
      'one who came while a killed one’s lease lasted',
      [{ ...acquired('a', 0, 1, 1), died: 3 * MS }, acquired('b', 50, 51, 2)],
      /at once/,
    ],
    [
      'a token that fell',
      [acquired('a', 0, 1, 2), call('a', 'release', 2, 3, 'yes'), acquired('b', 4, 5, 1)],
      /token 1 after 2/,
    ],
    ['a token given again', [acquired('a', 0, 1, 2), other(acquired('b', 4, 5, 2))], /given twice/],
    ['no token', [call('a', 'acquire', 0, 1, 'yes')], /without a token/],
    [
      'a renewal refused too early',
      [acquired('a', 0, 1, 1), call('a', 'renew', 50, 51, 'no')],
      /renewal of a lease that it held/,
    ],
    [
      'a release refused',
      [acquired('a', 0, 1, 1), call('a', 'release', 50, 51, 'no')],
      /release of a lease that it held/,
    ],
    ['a renewal of nothing', [call('a', 'renew', 50, 51, 'yes')], /never had was renewed/],
    ['a release of nothing', [call('a', 'release', 50, 51, 'yes')], /never had was released/],
    ['a hold denied', [acquired('a', 0, 1, 1), call('a', 'holds', 50, 50, 'no')], /denied/],
    ['a hold told after its end', [acquired('a', 0, 1, 1), call('a', 'holds', 110, 110, 'yes')], /can’t have held/],
    [
      'a hold told after its release',
      [acquired('a', 0, 1, 1), call('a', 'release', 2, 3, 'yes'), call('a', 'holds', 4, 4, 'yes')],
      /can’t have held/,
    ],
    [
      'a hold told after the release of all',
      [acquired('a', 0, 1, 1), call('a', 'releaseAll', 2, 3, 'yes'), call('a', 'holds', 4, 4, 'yes')],
      /can’t have held/,
    ],
    ['a refusal of a free key', [call('a', 'acquire', 0, 1, 'no')], /free since/],
    [
      'a refusal of a released key',
      [acquired('a', 0, 1, 1), call('a', 'release', 2, 3, 'yes'), call('b', 'acquire', 4, 5, 'no')],
      /free since/,
    ],
    ['a refusal after the end', [acquired('a', 0, 1, 1), call('b', 'acquire', 110, 111, 'no')], /free since/],
    ['an internal error', [call('a', 'acquire', 0, 1, 'Internal error: database is locked')], /database is locked/],
  ])('%s', (_, calls, problem) => {
    expect(checkLeases(calls).join('\n')).toMatch(problem)
  })

  test('nothing that would depend on the order of the log', () => {
    const calls = [acquired('a', 0, 1, 1), call('a', 'release', 2, 3, 'yes'), acquired('b', 4, 5, 2)]
    expect(checkLeases(calls.reverse())).toEqual([])
  })
})

test('a log is read, its half line left out', () => {
  const text = 'i\t1\ta\t100\tacquire\tK\t5\nr\t1\t7\tyes\t3\ni\t2\ta\t100\trelease\tK\t9\nr\t2\t1'
  expect(parseCalls(text, 20)).toEqual([
    { agent: 'a', duration: 100, op: 'acquire', key: 'K', invoked: 5, answered: 7, answer: 'yes', token: 3, died: 20 },
    { agent: 'a', duration: 100, op: 'release', key: 'K', invoked: 9, died: 20 },
  ])
})
