// What a log of lease calls proves.
//
// Each call is known by its invocation and its answer, and took effect at some moment in between. So a lease is
// *certainly* held from the answer of `acquire` on, and until one duration after the invocation of `acquire` or of
// the last renewal that succeeded, or until `release` is invoked. (A renewal may come after the end of the lease. It
// succeeds only if nobody else has acquired meanwhile, so that nobody can have had the key in between.) It is
// *possibly* held from the invocation of `acquire` until one duration after the last answer, or until `release`
// answers. What a killed process had begun is possible, not certain. Only what contradicts a certainty is a problem.

/** Leases count in whole milliseconds: one may end this much before its duration is over. In nanoseconds. */
const GRAIN = 1_000_000

/** One call of one agent; an agent makes its calls one after the other. Times are in nanoseconds. */
export interface Call {
  agent: string
  /** How long the agent's leases last. */
  duration: number
  op: 'acquire' | 'renew' | 'release' | 'releaseAll' | 'holds'
  key: string
  invoked: number
  /** Absent if the process died in the call. */
  answered?: number
  answer?: 'yes' | 'no' | string
  token?: number
  /** When the agent's process was certainly dead, if it was killed. */
  died?: number
}

interface Hold {
  call: Call
  certainFrom: number
  certainEnd: number
  possibleFrom: number
  possibleEnd: number
}

/** What is wrong with the log; empty if nothing can be proved wrong. */
export function checkLeases(calls: Call[]): string[] {
  const problems: string[] = []
  const holds = new Map<string, Hold[]>()
  const refusals: Call[] = []
  for (const own of groupBy(calls, ({ agent }) => agent).values()) replay(own, holds, refusals, problems)
  for (const [key, list] of holds) {
    checkOverlaps(key, list, problems)
    checkTokens(key, list, problems)
  }
  checkRefusals(holds, refusals, problems)
  const tokens = calls.flatMap(({ token }) => token ?? [])
  if (new Set(tokens).size !== tokens.length) problems.push('a token was given twice')
  return problems
}

/** Follows one agent: finds its holds, and answers that contradict what it certainly has or can't have. */
function replay(own: Call[], holds: Map<string, Hold[]>, refusals: Call[], problems: string[]): void {
  const current = new Map<string, Hold>()
  for (const call of own.sort((a, b) => a.invoked - b.invoked)) {
    const { op, key, invoked, duration, answer } = call
    const answered = call.answered ?? Number.POSITIVE_INFINITY
    const latest = call.answered ?? call.died ?? Number.POSITIVE_INFINITY
    const hold = current.get(key)
    const isHeld = hold !== undefined && answered < hold.certainEnd
    const tell = (what: string): void => {
      problems.push(`${call.agent} on ${key} at ${invoked}: ${what}`)
    }
    if (answer !== undefined && answer !== 'yes' && answer !== 'no') {
      tell(`${op} answered ${answer}`)
      // It may have happened or not.
      if (hold) hold.certainEnd = Math.min(hold.certainEnd, invoked)
      continue
    }
    switch (op) {
      case 'acquire': {
        if (answer === 'no') {
          refusals.push(call)
          break
        }
        const isCertain = answer === 'yes'
        if (isCertain && call.token === undefined) tell('acquired without a token')
        const next: Hold = {
          call,
          certainFrom: isCertain ? answered : Number.POSITIVE_INFINITY,
          certainEnd: isCertain ? invoked + duration - GRAIN : Number.NEGATIVE_INFINITY,
          possibleFrom: invoked,
          possibleEnd: latest + duration + GRAIN,
        }
        current.set(key, next)
        const others = holds.get(key)
        if (others) others.push(next)
        else holds.set(key, [next])
        break
      }
      case 'renew':
        if (answer === 'no') {
          if (isHeld) tell('the renewal of a lease that it held was refused')
          if (hold) hold.possibleEnd = Math.min(hold.possibleEnd, answered)
          current.delete(key)
        } else if (!hold) {
          tell('a lease that it never had was renewed')
        } else {
          if (answer === 'yes') hold.certainEnd = Math.max(hold.certainEnd, invoked + duration - GRAIN)
          hold.possibleEnd = Math.max(hold.possibleEnd, latest + duration + GRAIN)
        }
        break
      case 'release':
        if (answer === 'no' && isHeld) tell('the release of a lease that it held was refused')
        if (answer === 'yes' && !hold) tell('a lease that it never had was released')
        if (hold) end(hold, call)
        current.delete(key)
        break
      case 'releaseAll':
        for (const each of current.values()) end(each, call)
        current.clear()
        break
      case 'holds':
        if (answer === 'no' && isHeld) tell('a lease that it held was denied')
        if (answer === 'yes' && (!hold || invoked > hold.possibleEnd))
          tell('it was told to hold what it can’t have held')
        break
    }
  }
}

function end(hold: Hold, { invoked, answered }: Call): void {
  hold.certainEnd = Math.min(hold.certainEnd, invoked)
  // Whatever it answered, afterwards there is no lease of this agent.
  if (answered !== undefined) hold.possibleEnd = Math.min(hold.possibleEnd, answered)
}

/** Two who certainly held a key at one moment; or one who acquired it wholly within the certain hold of another. */
function checkOverlaps(key: string, holds: Hold[], problems: string[]): void {
  let longest: Hold | undefined
  for (const hold of holds.filter(({ call }) => call.answer === 'yes').sort((a, b) => a.certainFrom - b.certainFrom)) {
    if (longest && hold.certainFrom < longest.certainEnd) {
      const isHeld = hold.certainFrom < hold.certainEnd
      if (isHeld || hold.call.invoked >= longest.certainFrom) {
        problems.push(
          `${key} was held by ${longest.call.agent} (${longest.certainFrom} to ${longest.certainEnd}) and ` +
            `${hold.call.agent} (${hold.certainFrom} to ${hold.certainEnd}) at once`,
        )
      }
    }
    if (!longest || hold.certainEnd > longest.certainEnd) longest = hold
  }
}

/** Who asks after another one was answered gets a higher token. */
function checkTokens(key: string, holds: Hold[], problems: string[]): void {
  const calls = holds.flatMap(({ call }) => (call.answer === 'yes' ? [call] : []))
  const byAnswer = [...calls].sort((a, b) => a.answered! - b.answered!)
  let [next, highest] = [0, Number.NEGATIVE_INFINITY]
  for (const call of calls.sort((a, b) => a.invoked - b.invoked)) {
    for (; next < byAnswer.length && byAnswer[next]!.answered! < call.invoked; next++) {
      highest = Math.max(highest, byAnswer[next]!.token ?? 0)
    }
    if ((call.token ?? 0) <= highest) problems.push(`${key}: ${call.agent} got token ${call.token} after ${highest}`)
  }
}

/** Nobody is refused a key that nobody can have held. */
function checkRefusals(holds: Map<string, Hold[]>, refusals: Call[], problems: string[]): void {
  for (const [key, calls] of groupBy(refusals, ({ key }) => key)) {
    const list = (holds.get(key) ?? []).sort((a, b) => a.possibleFrom - b.possibleFrom)
    let [next, latest] = [0, Number.NEGATIVE_INFINITY]
    for (const call of calls.sort((a, b) => a.answered! - b.answered!)) {
      for (; next < list.length && list[next]!.possibleFrom <= call.answered!; next++) {
        latest = Math.max(latest, list[next]!.possibleEnd)
      }
      if (latest < call.invoked)
        problems.push(`${call.agent} was refused ${key} at ${call.invoked}, which was free since ${latest}`)
    }
  }
}

function groupBy<T>(values: T[], keyOf: (value: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>()
  for (const value of values) {
    const group = groups.get(keyOf(value))
    if (group) group.push(value)
    else groups.set(keyOf(value), [value])
  }
  return groups
}

/**
 * The calls in a log file of one process, whose lines are `i <id> <agent> <duration> <op> <key> <time>` for an
 * invocation and `r <id> <time> <answer> <token>` for an answer, separated by tabs. A half line at the end is what the
 * process was killed in.
 */
export function parseCalls(text: string, died?: number): Call[] {
  const calls = new Map<string, Call>()
  for (const line of text.slice(0, text.lastIndexOf('\n') + 1).split('\n')) {
    const [kind, id = '', ...rest] = line.split('\t')
    if (kind === 'i') {
      const [agent = '', duration, op, key = '', invoked] = rest
      calls.set(id, { agent, duration: Number(duration), op: op as Call['op'], key, invoked: Number(invoked), died })
    } else if (kind === 'r') {
      const call = calls.get(id)!
      const [answered, answer, token] = rest
      call.answered = Number(answered)
      call.answer = answer
      if (token) call.token = Number(token)
    }
  }
  return [...calls.values()]
}
