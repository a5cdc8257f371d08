// What importing a module costs a process that has loaded nothing else.

/** @param {{module: string}} argument */
export async function run({ module }) {
  global.gc?.()
  const before = process.memoryUsage.rss()
  const start = performance.now()
  await import(module)
  const milliseconds = performance.now() - start
  global.gc?.()
  return { milliseconds, bytes: process.memoryUsage.rss() - before }
}
