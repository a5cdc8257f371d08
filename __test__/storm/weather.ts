// How hard the storms blow, and how their figures are told.

/** Whether this is the short form, for every change; the long one is for releases. */
export const isShort = process.env.STORM === 'short'

/** The long form's figure or the short one's. */
export const scaled = <T>(long: T, short: T): T => (isShort ? short : long)

/** Now, in nanoseconds, by the clock that all processes of the machine share (`CLOCK_MONOTONIC`). */
export const nanoseconds = (): number => Number(process.hrtime.bigint())

/** The value that this share of the values does not exceed. */
export function quantile(values: number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN
}

/** Median, tail and maximum, in words. */
export function spread(values: number[], digits = 1): string {
  const [median, p90, p99, max] = [0.5, 0.9, 0.99, 1].map((share) => quantile(values, share).toFixed(digits))
  return `median ${median}, p90 ${p90}, p99 ${p99}, max ${max} (n = ${values.length})`
}

/** Tells a figure. */
export function tell(text: string): void {
  console.log(`  storm: ${text}`)
}

/** A whole number from `from` on, below `to`. */
export const random = (from: number, to: number): number => from + Math.floor(Math.random() * (to - from))
