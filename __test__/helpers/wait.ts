export const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

/** Asks again and again until the answer is truthy, and returns it. */
export async function until<T>(ask: () => T | Promise<T>, what: string, limit = 10_000): Promise<NonNullable<T>> {
  const end = Date.now() + limit
  for (;;) {
    const answer = await ask()
    if (answer) return answer
    if (Date.now() > end) throw new Error(`waited ${limit} ms in vain until ${what}`)
    await sleep(10)
  }
}

/** Counts turns of the event loop until it is stopped. */
export function countTicks(everyMs = 5): { stop(): number } {
  let ticks = 0
  const timer = setInterval(() => ticks++, everyMs)
  return {
    stop: () => {
      clearInterval(timer)
      return ticks
    },
  }
}
