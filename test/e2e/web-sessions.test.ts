import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
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
import { startWebSwarm, type WebSwarm } from '../web/web-swarm.ts'

describe.skipIf(CHROMIUM === undefined)('sessions of a tab on its servers', () => {
  let swarm: WebSwarm
  let browser: Browser
  let tab: Tab
  let page: Page

  beforeAll(async () => {
    const spans = [
      { start: 0, end: 4 },
      { start: 4, end: 8 },
      { start: 4, end: 8 },
    ]
    ;[swarm, browser] = await Promise.all([startWebSwarm(spans), launchChromium()])
    tab = await openTab(browser, swarm.url)
    page = tab.page
    await waitForReady(page)
    await setAnswers(page, { Temperature: '0', 'Longest answer, tokens': '80' })
  }, 240_000)

  afterAll(async () => {
    await browser?.close()
    await swarm?.close()
  })

  /** Sends the prompt and waits until some of the answer is there. */
  async function startAnswer(): Promise<void> {
    await sendMessage(page, PROMPT)
    await expect
      .poll(async () => (await page.locator('.growing').innerText()).length, {
        interval: 20,
        timeout: 20_000,
      })
      .toBeGreaterThan(30)
    expect(swarm.sessions()).toBe(2)
  }

  /** Milliseconds until no server holds a session. */
  async function untilFree(from: number): Promise<number> {
    while (swarm.sessions() > 0 && performance.now() - from < 5_000) {
      await new Promise((resolve) => setTimeout(resolve, 2))
    }
    return performance.now() - from
  }

  it('Esc stops an answer and frees its room on every server within 200 ms', async () => {
    await startAnswer()
    const pressed = performance.now()
    const [free] = await Promise.all([untilFree(pressed), page.keyboard.press('Escape')])
    expect(free).toBeLessThan(200)
    await page.locator('.message.assistant .aside', { hasText: 'Stopped' }).waitFor()
    expect(await page.locator('.message.assistant .markdown').innerText()).not.toBe('')
  })

  it('a lost server is replaced under way, the text stays the same, and the answer says so', async () => {
    await page.getByRole('button', { name: 'New chat' }).click()
    await sendMessage(page, PROMPT)
    const undisturbed = await answerText(page, 0)
    await page.getByRole('button', { name: 'New chat' }).click()
    await startAnswer()
    const lost = swarm.servers.slice(1).find(({ server }) => server.sessions > 0)
    await lost!.network.peer.close()
    expect(await answerText(page, 0)).toBe(undisturbed)
    const facts = page.locator('.message.assistant .facts')
    expect(await facts.innerText()).toContain('served by 2 peers, 1 failover')
    await facts.locator('summary').click()
    expect(await facts.innerText()).toMatch(
      /A server left \(blocks 4–7\), continuing on another after [\d.]+ s/,
    )
  })

  it('a tab that is closed in the middle of an answer leaves no session behind', async () => {
    await page.getByRole('button', { name: 'New chat' }).click()
    await startAnswer()
    const closed = performance.now()
    await page.close()
    expect(await untilFree(closed)).toBeLessThan(2_000)
    expect(tab.problems.filter((problem) => !problem.includes('WebSocket'))).toEqual([])
  })
})
