// Shows how far the agents are: a bar on a terminal, a line now and then elsewhere.

import { SingleBar } from 'cli-progress'

const BAR_INTERVAL = 100
const LINE_INTERVAL = 2_000

/**
 * @param {number} total
 * @param {() => number} done
 * @returns {{stop: (done: number) => void}}
 */
export function showProgress(total, done) {
  if (!process.stdout.isTTY) {
    const timer = setInterval(() => console.log(`  ${done()} of ${total} phases`), LINE_INTERVAL)
    return { stop: () => clearInterval(timer) }
  }
  const format = '  {bar} {percentage}% | {value} of {total} phases | {duration_formatted}'
  const bar = new SingleBar({ format, hideCursor: true, stream: process.stdout })
  bar.start(total, 0)
  const timer = setInterval(() => bar.update(done()), BAR_INTERVAL)
  return {
    stop(final) {
      clearInterval(timer)
      bar.update(final)
      bar.stop()
    },
  }
}
