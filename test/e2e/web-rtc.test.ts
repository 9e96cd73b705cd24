import type { Browser } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  answerText,
  CHROMIUM,
  launchChromium,
  openTab,
  sendMessage,
  setAnswers,
  waitForReady,
} from '../web/chromium.ts'
import { serveBlocks, untilReady } from '../web/serving-tab.ts'
import { PROMPT, referenceStory } from '../web/story.ts'
import { startWebSwarm, type WebSwarm } from '../web/web-swarm.ts'

const MAX_TOKENS = 24
/** Two tabs find a way past the relay in a second; a busy machine takes its time. */
const DIRECT_MS = 60_000

describe.skipIf(CHROMIUM === undefined)('tabs that reach each other', () => {
  let swarm: WebSwarm
  let browser: Browser
  let reference: string

  beforeAll(async () => {
    // Blocks 2 to 8 are for tabs.
    ;[swarm, browser, reference] = await Promise.all([
      startWebSwarm([{ start: 0, end: 2 }]),
      // Without the flag Chromium's WebRTC leaves loopback out.
      launchChromium(['--allow-loopback-in-peer-connection']),
      referenceStory(MAX_TOKENS),
    ])
  }, 240_000)

  afterAll(async () => {
    await browser?.close()
    await swarm?.close()
  })

  it('two tabs and one Node server form the whole chain, the tabs over WebRTC; the answer is the reference', async () => {
    const servers = [
      await openTab(browser, `${swarm.url}#/volunteer`),
      await openTab(browser, `${swarm.url}#/volunteer`),
    ]
    await Promise.all(servers.map(({ page }, i) => serveBlocks(page, i === 0 ? '2:5' : '5:8')))
    await untilReady(swarm.url)
    const client = await openTab(browser, swarm.url)
    const { page } = client
    await waitForReady(page)
    await setAnswers(page, { Temperature: '0', 'Longest answer, tokens': String(MAX_TOKENS) })
    // The first answers may go through the relay while the tabs still look for a way of their own.
    let route = ''
    for (
      const deadline = Date.now() + DIRECT_MS;
      (route.match(/WebRTC/g) ?? []).length < 2 && Date.now() < deadline;
    ) {
      await page.getByRole('button', { name: 'New chat' }).first().click()
      await sendMessage(page, PROMPT)
      expect(await answerText(page, 0)).toBe(reference.trim())
      const facts = page.locator('.message.assistant .facts').first()
      await facts.locator('summary').click()
      route = await facts.locator('.route').innerText()
    }
    expect(route.match(/WebRTC/g) ?? [], route).toHaveLength(2)
    expect(route).toContain('WebSocket')
    for (const tab of [client, ...servers]) expect(tab.problems).toEqual([])
  }, 240_000)
})
