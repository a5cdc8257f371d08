import { appendFileSync, readFileSync, realpathSync } from 'node:fs'
import { type IncomingHttpHeaders, request } from 'node:http'
import { createRequire } from 'node:module'
import { connect } from 'node:net'
import type { Browser, BrowserContextOptions, Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { PromptAttestationManager } from '../index.js'
import { hasBrowser, startBrowser } from './helpers/browser.js'
import {
  driftRecord,
  HOSTILE,
  HOSTILE_SHOWN,
  promptOf,
  type Running,
  runCli,
  startCli,
  workspaceWithJournals,
  writeAttestations,
} from './helpers/cli.js'
import { until } from './helpers/wait.js'
import { attestationsPath, makeWorkspace, openLeases, snapshot } from './helpers/workspace.js'

const HOUR = 3_600_000
const axe = readFileSync(createRequire(__filename).resolve('axe-core/axe.min.js'), 'utf8')

/** Serves the page of a workspace; its address. */
async function serve(root: string): Promise<{ url: string; server: Running }> {
  const server = startCli(['status', '--serve', '--listen', '127.0.0.1:0', '-w', root])
  const url = await until(() => /http:\/\/[\d.]+:\d+\//.exec(server.output())?.[0] ?? '', 'it listens')
  return { url, server }
}

/** What axe answers, as far as it is looked at. */
interface AxeResults {
  violations: { id: string; nodes: { html: string }[] }[]
  passes: { id: string }[]
}

interface Answer {
  status: number | undefined
  headers: IncomingHttpHeaders
  body: string
}

const ask = (url: string, { host, method = 'GET' }: { host?: string; method?: string } = {}): Promise<Answer> =>
  new Promise((resolve, reject) => {
    const asked = request(url, { method, headers: host === undefined ? {} : { host } }, (response) => {
      let body = ''
      response.setEncoding('utf8').on('data', (text: string) => (body += text))
      response.on('end', () => resolve({ status: response.statusCode, headers: response.headers, body }))
    })
    asked.on('error', reject).end()
  })

describe('the server', () => {
  test('serves the page, and what status --json answers', async () => {
    const root = await workspaceWithJournals()
    const { url } = await serve(root)
    const page = await ask(url)
    expect(page.status).toBe(200)
    expect(page.headers['content-type']).toBe('text/html; charset=utf-8')
    const served = JSON.parse((await ask(`${url}api/status`)).body)
    const { stdout } = await runCli(['status', '--json', '-w', root])
    expect({ ...served, at: '' }).toEqual({ ...JSON.parse(stdout), at: '' })
    expect((await ask(`${url}etc/passwd`)).status).toBe(404)
  })

  test('lets the page use nothing but itself', async () => {
    const { url } = await serve(await workspaceWithJournals())
    const { headers, body } = await ask(url)
    const policy = headers['content-security-policy'] ?? ''
    expect(policy).toContain("default-src 'none'")
    expect(policy).toContain("connect-src 'self'")
    expect(policy).not.toContain('unsafe')
    expect(body).not.toMatch(/(?:src|href)="(?!data:,"|#)/)
    expect(headers['x-content-type-options']).toBe('nosniff')
    expect(headers['cache-control']).toBe('no-store')
    expect((await ask(`${url}api/status`)).headers['access-control-allow-origin']).toBeUndefined()
  })

  test('refuses names that somebody else may have pointed here', async () => {
    const { url } = await serve(await workspaceWithJournals())
    for (const path of ['', 'api/status']) {
      for (const host of [
        'evil.example',
        'evil.example:9465',
        '127.0.0.1.evil.example',
        'localhost.evil.example',
        '192.0.2.1',
      ]) {
        const { status, body } = await ask(`${url}${path}`, { host })
        expect(status, host).toBeGreaterThanOrEqual(400)
        expect(body, host).not.toContain('TASK-1')
      }
      for (const host of ['localhost', 'LOCALHOST:80', '127.0.0.1', '127.1.2.3:9', '[::1]:9465']) {
        expect((await ask(`${url}${path}`, { host })).status, host).toBe(200)
      }
    }
  })

  test('answers reading only', async () => {
    const { url } = await serve(await workspaceWithJournals())
    for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS']) {
      expect((await ask(`${url}api/status`, { method })).status, method).toBe(405)
    }
    expect(await ask(url, { method: 'HEAD' })).toMatchObject({ status: 200, body: '' })
  })

  test('waits for a workspace in which nothing is yet, and makes nothing there', async () => {
    const root = makeWorkspace()
    const { url } = await serve(root)
    const state = async () => JSON.parse((await ask(`${url}api/status`)).body)
    expect(await state()).toMatchObject({
      database: { state: 'none' },
      drift: { state: 'none' },
      ledger: { state: 'none' },
    })
    expect(snapshot(root)).toEqual({})
    await openLeases(root, { agentId: 'me' }).acquireLease('TASK-1', 'SPEC')
    expect(await state()).toMatchObject({ database: { state: 'ok' }, leases: [{ agentId: 'me' }] })
  })

  test('reads on where it was, and anew when a log was replaced', async () => {
    const root = makeWorkspace()
    writeAttestations(root, [driftRecord('high', HOUR), driftRecord('low', 30 * HOUR)])
    const { url } = await serve(root)
    const drift = async () => JSON.parse((await ask(`${url}api/status`)).body).drift
    expect(await drift()).toMatchObject({ attestations: 2, all: { high: 1, low: 1 }, last24h: { high: 1, low: 0 } })
    const prompts = new PromptAttestationManager(root)
    for (const context of ['a', 'b']) await prompts.attest(promptOf('T', 'VERIFY', context))
    expect(await drift()).toMatchObject({ attestations: 4, all: { high: 2 } })
    writeAttestations(root, [driftRecord('medium', HOUR)])
    const anew = await drift()
    expect(anew).toMatchObject({ attestations: 1, all: { high: 0, medium: 1, low: 0 } })
    expect(anew.timeline).toHaveLength(24)
    expect(anew.timeline.map(({ medium }: { medium: number }) => medium).filter(Boolean)).toEqual([1])
    expect(anew.timeline.slice(21).some(({ medium }: { medium: number }) => medium === 1)).toBe(true)
  })

  test('ends in order when it is told to, also with a request half sent', async () => {
    const { url, server } = await serve(makeWorkspace())
    const { hostname, port } = new URL(url)
    const socket = connect(Number(port), hostname)
    onTestFinished(() => {
      socket.destroy()
    })
    await new Promise((resolve) => socket.on('error', () => {}).write('GET / HTTP/1.1\r\n', resolve))
    await ask(url)
    server.child.kill('SIGTERM')
    expect(await server.ended).toBe(0)
  })

  test('a port that is in use is told', async () => {
    const { url } = await serve(makeWorkspace())
    const { port } = new URL(url)
    const { code, stderr } = await runCli(['status', '--serve', '--listen', `127.0.0.1:${port}`, '-w', makeWorkspace()])
    expect(code).toBe(3)
    expect(stderr).toContain(`Can't listen on 127.0.0.1:${port}: another program listens there`)
  })

  test('warns if others than this machine can reach it', async () => {
    const server = startCli(['status', '--serve', '--listen', '0.0.0.0:0', '-w', makeWorkspace()])
    await until(() => server.errors().includes('warning: whoever can reach 0.0.0.0'), 'it warns')
  })
})

const canRun = hasBrowser()
if (!canRun) console.warn('the page in a browser: not run: chromium is not installed')

describe.runIf(canRun)('the page', () => {
  let browser: Browser
  beforeAll(async () => {
    browser = await startBrowser()
  })
  afterAll(() => browser.close())

  /** Opens the page of a workspace, live, and collects what the browser complains of. */
  async function open(
    root: string,
    options: BrowserContextOptions = {},
  ): Promise<{ page: Page; server: Running; complaints: string[] }> {
    const { url, server } = await serve(root)
    const context = await browser.newContext(options)
    onTestFinished(() => context.close())
    const page = await context.newPage()
    const complaints: string[] = []
    page.on('console', (message) => complaints.push(message.text()))
    page.on('pageerror', (error) => complaints.push(String(error)))
    page.on('request', (asked) => {
      if (!asked.url().startsWith(url) && !asked.url().startsWith('data:')) complaints.push(`asked for ${asked.url()}`)
    })
    await page.goto(url)
    await page.waitForSelector('body.live')
    return { page, server, complaints }
  }

  const rows = (page: Page, table: string): Promise<string[][]> =>
    page.evaluate(`[...document.querySelectorAll('#${table} tbody tr')].map((row) =>
      [...row.children].map((cell) => cell.innerText.trim()))`)

  const untilListed = (page: Page, task: string): Promise<unknown> =>
    until(async () => (await page.textContent('#leases tbody'))?.includes(task), `${task} is listed`)

  test('shows leases, waiting agents, drift, contention and the ledger', async () => {
    const root = await workspaceWithJournals()
    const manager = openLeases(root, { agentId: 'holder', leaseDuration: 7200 })
    await manager.acquireLease('TASK-1', 'SPEC')
    const waiter = openLeases(root, { agentId: 'waiter' })
    expect(await waiter.acquireLease('TASK-1', 'SPEC')).toMatchObject({ acquired: false })
    const waiting = waiter.hold('TASK-1', 'SPEC', { waitMs: 20_000 }).catch(() => {})
    const { page, complaints } = await open(root)
    await until(async () => (await page.textContent('#waiters')) === '1', 'it shows the waiter')
    const [lease] = await rows(page, 'leases')
    expect(lease).toEqual([
      'TASK-1',
      'SPEC',
      'holder',
      expect.stringMatching(/^\d+ on /),
      expect.any(String),
      expect.stringMatching(/^(1 h 59|2 h 0) m$/),
      '1',
    ])
    expect(await page.textContent('#active')).toBe('1')
    expect(await page.textContent('#high')).toBe('1')
    expect(await page.textContent('#entries')).toBe('2')
    // What processes have counted is stored within half a second, and the page asks every two.
    const contention = async () => Number(await page.textContent('#contention'))
    await expect.poll(contention, { timeout: 10_000 }).toBeGreaterThan(0)
    expect(await page.textContent('#drift-note')).toBe('1 high, 1 medium, 1 low, 0 not recorded; 6 attestations in all')
    expect(await page.$$eval('#chart rect', (bars) => bars.map((bar) => bar.getAttribute('class')).sort())).toEqual([
      'high',
      'low',
      'medium',
    ])
    const [newest, oldest] = await rows(page, 'ledger')
    expect(newest?.slice(1, 7)).toEqual(['TASK-1', 'SPEC', 'IMPLEMENT', 'coder', '2', 'no'])
    expect(oldest?.slice(1, 7)).toEqual(['TASK-1', '(start)', 'SPEC', '–', '1', 'yes'])
    expect(await page.textContent('#workspace')).toBe(realpathSync(root))
    expect(complaints).toEqual([])
    await manager.releaseLease('TASK-1', 'SPEC')
    await waiting
  })

  test('is live, and says when the server is gone and when it is back', async () => {
    const root = makeWorkspace()
    const manager = openLeases(root, { agentId: 'me' })
    const { page, server } = await open(root)
    expect(await rows(page, 'leases')).toEqual([])
    expect(await page.textContent('#leases-note')).toBe('Nobody holds a lease.')
    await manager.acquireLease('TASK-1', 'SPEC')
    await untilListed(page, 'TASK-1')
    await manager.releaseLease('TASK-1', 'SPEC')
    await until(async () => (await rows(page, 'leases')).length === 0, 'none is listed')
    server.child.kill('SIGKILL')
    await page.waitForSelector('body.gone')
    expect(await page.textContent('#state')).toMatch(/^no answer since /)
    const again = startCli(['status', '--serve', '--listen', new URL(page.url()).host, '-w', root])
    await page.waitForSelector('body.live')
    expect(again.errors()).toBe('')
  })

  test('can be paused, by the keyboard alone, as everything on it can be used', async () => {
    const root = await workspaceWithJournals()
    const manager = openLeases(root)
    const { page } = await open(root, { viewport: { width: 360, height: 700 } })
    const focused = (): Promise<string> =>
      page.evaluate(
        `(({ id, ariaLabel, className, tagName }) => id || ariaLabel || className || tagName)(document.activeElement)`,
      )
    const order: string[] = []
    for (let i = 0; i < 5; i++) {
      await page.keyboard.press('Tab')
      order.push(await focused())
    }
    expect(order).toEqual(['skip', 'pause', 'Table of leases', 'SUMMARY', 'Table of ledger entries'])
    await page.focus('summary')
    await page.keyboard.press('Enter')
    expect(await page.isVisible('#drift')).toBe(true)
    expect(await rows(page, 'drift')).toHaveLength(24)
    await page.focus('#pause')
    await page.keyboard.press('Enter')
    expect(await page.getAttribute('#pause', 'aria-pressed')).toBe('true')
    expect(await page.textContent('#state')).toMatch(/^paused at /)
    await manager.acquireLease('LATER', 'SPEC')
    await page.waitForTimeout(3000)
    expect(await rows(page, 'leases')).toEqual([])
    await page.keyboard.press('Space')
    await untilListed(page, 'LATER')
  })

  test.each(['light', 'dark'] as const)('axe finds nothing in %s mode, whether live or gone', async (colorScheme) => {
    const root = await workspaceWithJournals()
    const manager = openLeases(root, { leaseDuration: 0.01 })
    await manager.acquireLease('ENDED', 'SPEC')
    const { page, server } = await open(root, { colorScheme })
    await page.click('summary')
    const ground = await page.evaluate<string>('getComputedStyle(document.body).backgroundColor')
    const [red = 0] = /\d+/.exec(ground)?.map(Number) ?? []
    expect(colorScheme === 'dark' ? red < 64 : red > 191).toBe(true)
    for (const state of ['live', 'gone']) {
      if (state === 'gone') server.child.kill('SIGKILL')
      await page.waitForSelector(`body.${state}`)
      const found = await page.evaluate<AxeResults>(`${axe}; axe.run()`)
      expect(found.violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`)).toEqual([])
      expect(found.passes.map(({ id }) => id)).toEqual(expect.arrayContaining(['color-contrast', 'document-title']))
    }
  })

  test('names of any characters are text on it', async () => {
    const root = await workspaceWithJournals(HOSTILE)
    const manager = openLeases(root, { agentId: HOSTILE })
    await manager.acquireLease(HOSTILE, '<script>document.title = "taken"</script>')
    writeAttestations(root, [driftRecord('<b>', HOUR, { task_id: HOSTILE })])
    const { page, complaints } = await open(root)
    const [lease] = await rows(page, 'leases')
    expect(lease?.slice(0, 3)).toEqual([
      HOSTILE_SHOWN,
      expect.stringContaining('<script>document.title'),
      HOSTILE_SHOWN,
    ])
    expect((await rows(page, 'ledger'))[0]?.[1]).toBe(HOSTILE_SHOWN)
    expect(await page.$$('img, tbody script, tbody b')).toEqual([])
    expect(await page.title()).toContain('driftlock')
    expect(await page.textContent('#drift-note')).toContain('1 not recorded')
    expect(complaints).toEqual([])
  })

  test('tells what is not as it should be', async () => {
    const root = await workspaceWithJournals()
    writeAttestations(root, [driftRecord('low', HOUR)])
    const { page } = await open(root)
    expect(await page.isVisible('#problems')).toBe(false)
    appendFileSync(attestationsPath(root), 'x\n')
    await page.waitForSelector('#problems', { state: 'visible' })
    expect(await page.textContent('#problems')).toContain('1 damaged line in the attestations: driftlock doctor')
  })
})
