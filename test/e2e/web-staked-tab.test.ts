import { bytesToHex } from '@noble/hashes/utils.js'
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createIdentity } from '../../src/swarm/identity.ts'
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
import { serveBlocks, untilReady } from '../web/serving-tab.ts'
import { askGateway, PROMPT, referenceStory } from '../web/story.ts'
import { startWebSwarm, type WebSwarm } from '../web/web-swarm.ts'

const MAX_TOKENS = 24

describe.skipIf(CHROMIUM === undefined)('a tab with stake in a gated swarm', () => {
  let swarm: WebSwarm
  let browser: Browser
  let tab: Tab
  let page: Page
  let peerId: string
  let reference: string

  beforeAll(async () => {
    const seed = crypto.getRandomValues(new Uint8Array(32))
    ;({ peerId } = await createIdentity(seed))
    ;[swarm, browser, reference] = await Promise.all([
      // Blocks 6 and 7 are for the tab.
      startWebSwarm(
        [
          { start: 0, end: 4 },
          { start: 4, end: 6 },
        ],
        peerId,
      ),
      launchChromium(),
      referenceStory(MAX_TOKENS),
    ])
    tab = await openTab(browser, `${swarm.url}#/volunteer`)
    page = tab.page
    await page.evaluate((secret) => localStorage.setItem('chorale-identity', secret), bytesToHex(seed))
    await page.reload()
  }, 240_000)

  afterAll(async () => {
    await browser?.close()
    await swarm?.close()
  })

  it('sees its stake before the start, then serves under the peer id that the ledger knows', async () => {
    await expect
      .poll(() => page.locator('.checks li').first().innerText())
      .toMatch(/Stake.*200 TENSOR in node/s)
    expect(await serveBlocks(page, '6:8')).toBe(peerId)
  }, 180_000)

  it('computes for a staked client', async () => {
    await untilReady(swarm.url)
    const { text, peers } = await askGateway(swarm.url, MAX_TOKENS)
    expect(text).toBe(reference)
    expect(peers).toContain(peerId)
  }, 180_000)

  it('computes for another tab without stake, which comes with a pass', async () => {
    const other = await openTab(browser, swarm.url)
    await waitForReady(other.page)
    await setAnswers(other.page, { Temperature: '0', 'Longest answer, tokens': String(MAX_TOKENS) })
    await sendMessage(other.page, PROMPT)
    expect(await answerText(other.page, 0)).toBe(reference.trim())
    const facts = other.page.locator('.message.assistant .facts')
    expect(await facts.locator('summary').innerText()).toContain('served by 3 peers, signed by 3 servers')
    expect(other.problems).toEqual([])
    await other.context.close()
  })

  it('a second tab of the browser does not serve under the same peer id', async () => {
    const second = await tab.context.newPage()
    await second.goto(`${swarm.url}#/volunteer`)
    await second.getByRole('button', { name: 'Start' }).click()
    await second.getByText(/another tab of this browser serves/).waitFor()
    await second.close()
  })

  it('reported no error', () => {
    expect(tab.problems).toEqual([])
  })
})
