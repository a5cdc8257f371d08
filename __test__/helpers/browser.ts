import { existsSync } from 'node:fs'
import { type Browser, chromium } from 'playwright-core'

/** Chromium or Chrome, where it usually is. */
const PLACES = [
  process.env.CHROMIUM_PATH,
  '/usr/bin/chromium',
  '/usr/bin/google-chrome',
  '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
  'C:\\Program Files\\Google\\Chrome\\Application\\chrome.exe',
]
const executable = PLACES.find((path) => path !== undefined && existsSync(path))
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
  if (executable) return true
  if (process.env.CI) throw new Error('chromium is not installed, and CI must not leave its tests out')
  return false
}

export const startBrowser = (): Promise<Browser> => chromium.launch({ executablePath: executable, args: SWITCHES })
