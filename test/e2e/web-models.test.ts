import { mkdirSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { runChorale, type Running, startChorale } from '../cli/run-chorale.ts'
import { axe } from '../web/axe.ts'
import {
  answerText,
  CHROMIUM,
  launchChromium,
  openTab,
  sendMessage,
  setAnswers,
  waitForReady,
} from '../web/chromium.ts'

const SHOTS = join(import.meta.dirname, '../../test-results/web')

describe.skipIf(CHROMIUM === undefined)('a tab in a network of two models', () => {
  const running: Running[] = []
  let folder = ''
  let rounded = ''
  let bootstrap = ''
  let browser: Browser
  let page: Page
  let problems: readonly string[] = []

  async function start(args: string[]): Promise<Record<string, unknown>> {
    const started = startChorale([...args, '--json'])
    running.push(started)
    const deadline = Date.now() + 90_000
    while (!started.out().includes('\n')) {
      if (Date.now() > deadline || started.child.exitCode !== null) throw new Error(started.err())
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
    return JSON.parse(started.out().split('\n')[0]!) as Record<string, unknown>
  }
  const listen = ['--listen', '/ip4/127.0.0.1/tcp/0', '/ip4/127.0.0.1/tcp/0/ws']
  const engine = ['--engine', 'wasm', '--threads', '1', '--kv-tokens', '4096']
  const serve = (...args: string[]) => start(['serve', ...args, ...engine, ...listen])

  beforeAll(async () => {
    mkdirSync(SHOTS, { recursive: true })
    folder = await mkdtemp(join(tmpdir(), 'chorale-models-'))
    rounded = join(folder, 'tale-q8')
    const made = await runChorale(['models', 'quantize', 'storyteller', '--bits', '8', '--out', rounded])
    expect(made.code, made.err).toBe(0)
    const blocks = ['--blocks', 'storyteller=0:8', '--blocks', 'tale-q8=0:3']
    bootstrap = ((await serve('storyteller', rounded, ...blocks))['addrs'] as string[])
      .filter((address) => address.includes('/ws/'))
      .join('')
    const ways = ['--bootstrap', bootstrap, '--port', '0']
    const { url } = await start(['gateway', 'storyteller', rounded, ...ways])
    browser = await launchChromium()
    const tab = await openTab(browser, `${String(url)}/`)
    ;({ page, problems } = tab)
    // Pictures of the end of a movement, not of its middle.
    await page.emulateMedia({ reducedMotion: 'reduce' })
    await waitForReady(page)
  }, 200_000)
  afterAll(async () => {
    await browser?.close()
    for (const { child, ended } of running) {
      child.kill('SIGKILL')
      await ended
    }
    await rm(folder, { recursive: true, force: true })
  })

  /** No rule of axe broken, in both colours and on a phone; pictures for people. */
  async function look(name: string): Promise<void> {
    for (const scheme of ['light', 'dark'] as const) {
      await page.emulateMedia({ colorScheme: scheme })
      expect(await axe(page), `${name} ${scheme}`).toEqual([])
      await page.screenshot({ path: join(SHOTS, `${name}-${scheme}.png`) })
    }
    await page.emulateMedia({ colorScheme: 'light' })
    await page.setViewportSize({ width: 390, height: 800 })
    await page.screenshot({ path: join(SHOTS, `${name}-phone.png`) })
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBe(390)
    await page.setViewportSize({ width: 1280, height: 800 })
  }

  async function choose(name: string): Promise<void> {
    await page.locator('.model-status').click()
    await page.getByRole('button', { name: `Use ${name}`, exact: true }).click()
    await page.locator('.model-name', { hasText: name }).waitFor()
  }

  it('Swarm lists both, and shows the map of either', async () => {
    await page.getByRole('link', { name: 'Swarm' }).click()
    const table = page.getByRole('region', { name: 'Models of this network' })
    await table.locator('tbody tr').nth(1).waitFor()
    const rows = await table.locator('tbody tr').allInnerTexts()
    expect(rows.map((row) => row.split(/\s*\t\s*|\n+/).filter((cell) => cell !== ''))).toEqual([
      ['storyteller', '◐ complete, none to spare', '8', '1', '0, 1 server', 'F16', '–'],
      ['tale-q8', '○ short of blocks 3–7', '8', '1', '3, 0 servers', 'Q8_0', '–'],
    ])
    await table.getByRole('button', { name: 'tale-q8' }).click()
    await page.getByRole('heading', { name: /^tale-q8 .*Broken: no server for blocks 3–7/ }).waitFor()
    expect(await page.locator('.block-map .cell.online').count()).toBe(3)
    await look('models')
  })

  it('a model that is short of blocks: Chat says which, and offers another, a wait, and to lend the tab', async () => {
    await page.getByRole('link', { name: 'Chat', exact: true }).click()
    const missing = page.getByRole('region', { name: 'Missing blocks' })
    expect(await missing.count()).toBe(0)
    await page.locator('.model-status').click()
    await page.getByRole('button', { name: 'Use tale-q8' }).waitFor()
    await look('model-picker')
    await page.keyboard.press('Escape')
    await choose('tale-q8')
    await missing.getByText('No server for blocks 3–7 of tale-q8.').waitFor({ timeout: 60_000 })
    expect(await missing.getByRole('link', { name: 'Lend this tab' }).getAttribute('href')).toBe(
      '#/volunteer',
    )
    await look('missing-blocks')

    await missing.getByRole('button', { name: 'Chat with storyteller' }).click()
    await page.locator('.model-name', { hasText: 'storyteller' }).waitFor()
    await waitForReady(page)
    expect(await missing.count()).toBe(0)
  }, 120_000)

  it('a message waits until the blocks are served, and is answered then', async () => {
    await setAnswers(page, { Temperature: '0', 'Longest answer, tokens': '12' })
    await choose('tale-q8')
    const missing = page.getByRole('region', { name: 'Missing blocks' })
    await missing.getByRole('button', { name: 'Wait for a server' }).click()
    await sendMessage(page, 'Tell me a story about a fox.')
    await page.getByText('Waiting for the model…').waitFor()
    await serve(rounded, '--blocks', '3:8', '--bootstrap', bootstrap)
    const text = await answerText(page, 0)
    expect(await missing.count()).toBe(0)
    const ask = ['--once', 'Tell me a story about a fox.', '--greedy', '--max-tokens', '12', '--json']
    const local = await runChorale(['chat', rounded, '--local', ...ask])
    expect(text.trim()).toBe((JSON.parse(local.out) as { text: string }).text.trim())
  }, 180_000)

  it('nothing failed in the page', () => {
    expect(problems).toEqual([])
  })
})
