// Shows which step is at work: a bar on a terminal, a line for each step elsewhere.

import { SingleBar } from 'cli-progress'

/**
 * @param {number} total
 * @returns {{begin: (step: string) => void, advance: () => void, end: () => void}}
 */
export function showProgress(total) {
  if (!process.stderr.isTTY) {
    let begun = 0
    return { begin: (step) => console.error(`[${++begun}/${total}] ${step}`), advance() {}, end() {} }
  }
  const format = '  {bar} {value} of {total} | {duration_formatted} | {step}{dots}'
  const bar = new SingleBar({ format, hideCursor: true, clearOnComplete: true, stream: process.stderr })
  bar.start(total, 0, { step: '', dots: '' })
  let [begun, dots] = [0, 0]
  return {
    begin(step) {
      dots = 0
      bar.update(begun++, { step, dots: '' })
    },
    // The bar is drawn between two measurements only, and never from a timer of its own.
    advance() {
      bar.update({ dots: '.'.repeat(++dots) })
    },
    end() {
      bar.update(total)
      bar.stop()
    },
  }
}
