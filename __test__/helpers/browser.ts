import { existsSync } from 'node:fs'
import { type Browser, chromium } from 'playwright-core'

const EXECUTABLE = process.env.CHROMIUM_PATH ?? '/usr/bin/chromium'
const SWITCHES = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
]

/** Whether the tests of the page can run. In CI they have to. */
export function hasBrowser(): boolean {
  if (existsSync(EXECUTABLE)) return true
  if (process.env.CI) throw new Error(`chromium is not installed at ${EXECUTABLE}, and CI must not leave its tests out`)
  return false
}

export const startBrowser = (): Promise<Browser> => chromium.launch({ executablePath: EXECUTABLE, args: SWITCHES })
