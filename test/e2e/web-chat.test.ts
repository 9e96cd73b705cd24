import { mkdirSync } from 'node:fs'
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
  type Tab,
  waitForReady,
} from '../web/chromium.ts'
import { PROMPT } from '../web/story.ts'
import { XSS_CORPUS } from '../web/xss-corpus.ts'

const SHOTS = join(import.meta.dirname, '../../test-results/web')

/** What a person types: `npm start -- --no-chat`, then the address it prints. */
async function startAll(): Promise<{ running: Running; url: string }> {
  const running = startChorale(['start', '--no-chat', '--port', '0'])
  const deadline = Date.now() + 90_000
  for (;;) {
    const url = /chat in your browser: (\S+)/.exec(running.err())?.[1]
    if (url !== undefined) return { running, url }
    if (Date.now() > deadline || running.child.exitCode !== null) throw new Error(running.err())
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

describe.skipIf(CHROMIUM === undefined)('a tab over server processes', () => {
  let running: Running
  let url: string
  let browser: Browser
  let tab: Tab
  let page: Page
  /** Requests that had to fail. */
  let offlineProblems = 0

  beforeAll(async () => {
    mkdirSync(SHOTS, { recursive: true })
    const [all, chromium] = await Promise.all([startAll(), launchChromium()])
    ;({ running, url } = all)
    browser = chromium
    tab = await openTab(browser, url)
    page = tab.page
    await waitForReady(page)
    await setAnswers(page, { Temperature: '0', 'Longest answer, tokens': '60' })
  }, 120_000)

  afterAll(async () => {
    await browser?.close()
    running?.child.kill('SIGINT')
    await running?.ended
  })

  it('shows what servers see before the first message', async () => {
    await page.getByLabel('Your message', { exact: true }).fill(PROMPT)
    await page.keyboard.press('Enter')
    const notice = page.getByRole('dialog')
    await notice.waitFor()
    expect(await notice.innerText()).toMatch(/servers .* see hidden states.*not private/is)
    await page.keyboard.press('Escape')
    await notice.waitFor({ state: 'detached' })
    expect(await page.locator('.message').count()).toBe(0)
  })

  it('answers with the text of the command line, and the gateway sees no prompt', async () => {
    const cli = runChorale(['chat', '--local', '--once', PROMPT, '--greedy', '--max-tokens', '60', '--json'])
    await sendMessage(page, PROMPT)
    const text = await answerText(page, 0)
    const { out, err } = await cli
    expect(out, err).toContain('"text"')
    expect(text).toBe((JSON.parse(out) as { text: string }).text.trim())

    const { requests } = tab
    expect(requests.filter(({ method }) => method !== 'GET')).toEqual([])
    expect(requests.filter(({ url: asked }) => /v1\/(chat|completions|tokenize)|fox/.test(asked))).toEqual([])
    const metrics = await (await fetch(new URL('/metrics', url))).text()
    expect(metrics).toMatch(/^swarm_http_requests_total\{route="\/api\/v1\/client"/m)
    expect(metrics).not.toMatch(/^swarm_http_requests_total\{route="\/v1/m)
    expect(metrics).toMatch(/^swarm_prompt_tokens_total 0$/m)
  })

  it('shows speed, tokens and the way of an answer', async () => {
    const facts = page.locator('.message.assistant .facts').first()
    expect(await facts.locator('summary').innerText()).toMatch(
      /[\d.]+ tok\/s · first token [\d.]+ s · \d+ \+ 60 tokens · greedy\s+served by 3 peers, signed by 3 servers/,
    )
    await facts.locator('summary').click()
    expect(await facts.locator('.signer').count()).toBe(3)
    expect(await facts.locator('li').allInnerTexts()).toEqual([
      expect.stringMatching(/^this tab/),
      expect.stringMatching(/^blocks 0–2 /),
      expect.stringMatching(/^blocks 3–5 /),
      expect.stringMatching(/^blocks 6–7 /),
    ])
  })

  it('saves the receipts of an answer as a file that `chorale verify` accepts', async () => {
    const facts = page.locator('.message.assistant .facts').first()
    const [download] = await Promise.all([
      page.waitForEvent('download'),
      facts.getByRole('button', { name: 'Save receipts' }).click(),
    ])
    const file = join(SHOTS, 'receipts.bin')
    await download.saveAs(file)
    const { code, out, err } = await runChorale(['verify', file, '--json'])
    expect(code, out + err).toBe(0)
    const report = JSON.parse(out) as {
      ok: boolean
      sessions: {
        prefilled: number
        decoded: number
        complete: boolean
        receipts: number
        acknowledged: number
      }[]
    }
    expect(report).toMatchObject({ ok: true, problems: [] })
    expect(report.sessions.length).toBe(3)
    // The first token comes of the prompt; the last is never run. Laps with guesses count as prompts do.
    for (const session of report.sessions) {
      expect(session).toMatchObject({ complete: true, acknowledged: session.receipts })
      expect(session.prefilled + session.decoded).toBeGreaterThan(59)
      expect(session.decoded).toBeLessThanOrEqual(59)
    }
  })

  it('copies, regenerates, edits and deletes', async () => {
    const before = await answerText(page, 0)
    await page.locator('.message.assistant').getByRole('button', { name: 'Copy' }).click()
    expect((await page.evaluate(() => navigator.clipboard.readText())).trim()).toBe(before)

    await page.getByRole('button', { name: 'Regenerate' }).click()
    await page.locator('.message.growing').waitFor({ state: 'attached' })
    expect(await answerText(page, 0)).toBe(before)

    await page.locator('.message.user').hover()
    await page.getByRole('button', { name: 'Edit' }).click()
    await page.getByLabel('Edit your message').fill('A dragon who is afraid of fire')
    await page.keyboard.press('Control+Enter')
    await page.locator('.message.growing').waitFor({ state: 'attached' })
    expect(await answerText(page, 0)).not.toBe(before)
    expect(await page.locator('.user-text').allInnerTexts()).toEqual(['A dragon who is afraid of fire'])

    await page.locator('.message.assistant').getByRole('button', { name: 'Delete' }).click()
    await page.locator('.message.assistant').waitFor({ state: 'detached' })
    expect(await page.locator('.message').count()).toBe(1)
  })

  it('keeps chats and the model over a reload', async () => {
    await sendMessage(page, PROMPT)
    const text = await answerText(page, 0)
    await page.reload()
    expect(await answerText(page, 0)).toBe(text)
    await waitForReady(page)
    await page.locator('.model-status').click()
    // Nothing of the model came over the network again.
    expect(await page.getByRole('dialog').innerText()).toMatch(/0 B fetched, \d+ kB from this browser/)
    await page.keyboard.press('Escape')
  })

  it.each(['light', 'dark'] as const)(
    'is accessible in %s colours, and looks as its pictures',
    async (scheme) => {
      await page.emulateMedia({ colorScheme: scheme })
      const found: string[] = []
      const look = async (name: string) => {
        // Pages are fetched when they are shown.
        await page.locator('main > *').first().waitFor({ state: 'attached' })
        found.push(...(await axe(page)).map((line) => `${name}: ${line}`))
        await page.screenshot({ path: join(SHOTS, `${name}-${scheme}.png`) })
      }
      await page.getByRole('link', { name: 'Chat', exact: true }).click()
      await look('empty')
      await page.locator('.chat-list li a').first().click()
      await look('chat')
      await page.getByRole('link', { name: 'Swarm' }).click()
      await page.locator('.block-map').waitFor()
      await page.setViewportSize({ width: 1280, height: 1400 })
      await look('swarm')
      await page.setViewportSize({ width: 390, height: 1800 })
      await look('swarm-phone')
      expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBe(390)
      await page.setViewportSize({ width: 1280, height: 800 })
      await page.getByRole('link', { name: 'Settings' }).click()
      await look('settings')
      await page.locator('.model-status').click()
      await look('model')
      await page.keyboard.press('Escape')
      await page.setViewportSize({ width: 390, height: 800 })
      await page.screenshot({ path: join(SHOTS, `settings-phone-${scheme}.png`) })
      await page.getByRole('button', { name: 'Show chats' }).click()
      await look('list-phone')
      await page.locator('.chat-list li a').first().click()
      await look('chat-phone')
      // Nothing sticks out sideways.
      expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBe(390)
      await page.setViewportSize({ width: 1280, height: 800 })
      expect(found).toEqual([])
    },
  )

  it('shows who serves which blocks, in a table that a screen reader can walk', async () => {
    await page.getByRole('link', { name: 'Swarm' }).click()
    const map = page.locator('.block-map')
    await map.waitFor()
    expect(await map.locator('tbody tr').count()).toBe(3)
    expect(await map.locator('.online').count()).toBe(8)
    expect(await map.locator('tfoot td').allInnerTexts()).toEqual(Array(8).fill('1'))
    expect(await page.locator('.swarm').innerText()).toContain('3 servers cover 8 blocks')
    expect(await page.locator('.servers').first().innerText()).toMatch(/(Validator · [\d.]+ TENSOR.*){3}/s)
  })

  it('shows the epoch of the ledger, pushed as it goes on', async () => {
    const panel = page.locator('.epoch')
    await panel.getByRole('heading', { name: /^Epoch \d+$/ }).waitFor()
    const text = await panel.innerText()
    expect(text).toMatch(/Chorale Development, block \d+/)
    expect(text).toMatch(/local \(\d+\), active/)
    expect(text).toMatch(/node \d+ \(….{8}\)/)
    expect(await panel.locator('tbody tr').count()).toBe(3)
    expect(await panel.locator('tbody').innerText()).toMatch(/Validator\s+[\d.]+ TENSOR\s+\d+ %/)
    const block = async () => Number(/block ([\d,]+)/.exec(await panel.innerText())?.[1]?.replaceAll(',', ''))
    const before = await block()
    const asked = tab.requests.filter(({ url: address }) => address.includes('api/v1/state')).length
    await expect.poll(block, { timeout: 10_000 }).toBeGreaterThan(before)
    // By the stream of events, not by asking again; the header asks every ten seconds.
    const again = tab.requests.filter(({ url: address }) => address.includes('api/v1/state')).length
    expect(again - asked).toBeLessThanOrEqual(1)
    expect(tab.requests.some(({ url: address }) => address.includes('api/v1/events'))).toBe(true)
  })

  it('tells a volunteer without stake why it can’t serve, and what helps', async () => {
    await page.getByRole('link', { name: 'Volunteer' }).click()
    const check = page.locator('.checks li').first()
    await expect
      .poll(() => check.innerText())
      .toMatch(/^.*Stake.*peer 12D3Koo\w+ is no node of subnet local/s)
    expect(await check.innerText()).toMatch(/Wallet page.*bond stake/)
    await page.getByRole('button', { name: 'Start', exact: true }).click()
    const problem = page.locator('.volunteer .problem')
    await problem.waitFor({ timeout: 5_000 })
    expect(await problem.innerText()).toMatch(/only peers with stake serve.*Wallet page/s)
    expect(await axe(page)).toEqual([])
    await page.screenshot({ path: join(SHOTS, 'volunteer-unstaked-light.png') })
  })

  it('is used with keys alone', async () => {
    await page.keyboard.press('Control+Shift+O')
    await expect.poll(() => page.evaluate(() => document.activeElement?.id)).toBe('composer')
    await page.keyboard.press('Control+k')
    await expect.poll(() => page.evaluate(() => document.activeElement?.id)).toBe('chat-search')
    await page.keyboard.press('Control+/')
    expect(await page.getByRole('dialog').innerText()).toContain('Ctrl+Shift+O')
    await page.keyboard.press('Escape')
    // From the top, Tab reaches the message field in the order of the page.
    await page.reload()
    await waitForReady(page)
    const reached: string[] = []
    for (let i = 0; i < 40 && reached.at(-1) !== 'composer'; i++) {
      await page.keyboard.press('Tab')
      reached.push(
        await page.evaluate(() => document.activeElement?.id || (document.activeElement?.textContent ?? '')),
      )
    }
    expect(reached[0]).toBe('Skip to content')
    expect(reached.indexOf('New chat')).toBeLessThan(reached.indexOf('chat-search'))
    expect(reached.at(-1)).toBe('composer')
  })

  it('shows what a model writes without running any of it', async () => {
    await page.getByRole('link', { name: 'Settings' }).click()
    const messages = XSS_CORPUS.flatMap((content) => [
      { role: 'user', content },
      { role: 'assistant', content },
    ])
    const file = { format: 'chorale-chats', version: 1, chats: [{ title: 'corpus', messages }] }
    await page.locator('input[type=file]').setInputFiles({
      name: 'chats.json',
      mimeType: 'application/json',
      buffer: Buffer.from(JSON.stringify(file)),
    })
    await page.getByText('1 chat imported.').waitFor()
    await page.getByRole('link', { name: 'corpus' }).click()
    await expect.poll(() => page.locator('.message.assistant').count()).toBe(XSS_CORPUS.length)
    const bad = await page.evaluate(() => {
      const found: string[] = []
      for (const element of document.querySelectorAll('.markdown *')) {
        if (
          /^(script|style|iframe|img|svg|math|object|embed|form|input|link|meta|base|template)$/i.test(
            element.tagName,
          )
        ) {
          // Icons of our own buttons are the only pictures.
          if (element.closest('button') === null) found.push(element.outerHTML)
        }
        for (const { name, value } of element.attributes) {
          if (/^on|^style$|^srcdoc$|^src$/i.test(name)) found.push(element.outerHTML)
          if (name === 'href' && !/^(https?|mailto):/i.test(value)) found.push(element.outerHTML)
        }
      }
      return found
    })
    expect(bad).toEqual([])
    for (const link of await page.locator('.markdown a').all()) {
      expect(await link.getAttribute('rel')).toContain('noopener')
    }
    expect(await page.evaluate(() => 'hacked' in globalThis)).toBe(false)
  })

  it('opens without a network once it was here', async () => {
    const { problems } = tab
    await expect.poll(() => page.evaluate(() => navigator.serviceWorker.controller !== null)).toBe(true)
    // The first visit came before the worker that keeps the files.
    await page.reload()
    await waitForReady(page)
    const before = [...problems]
    await tab.context.setOffline(true)
    await page.reload()
    await page.getByText('The network can’t be reached.').first().waitFor()
    expect(await page.locator('.message.assistant').count()).toBe(XSS_CORPUS.length)
    await tab.context.setOffline(false)
    await page.getByRole('button', { name: 'Try again' }).first().click()
    await waitForReady(page)
    expect(problems.slice(before.length).filter((line) => !/ERR_INTERNET_DISCONNECTED/.test(line))).toEqual(
      [],
    )
    offlineProblems = problems.length - before.length
  })

  it('reported no error and asked no other host', () => {
    expect(tab.problems.slice(0, tab.problems.length - offlineProblems)).toEqual([])
  })
})
