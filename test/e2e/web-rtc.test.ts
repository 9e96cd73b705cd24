import type { Browser } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { runChorale } from '../cli/run-chorale.ts'
import { until } from '../swarm/loopback.ts'
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
import { startWebSwarm, type WebSwarm } from '../web/web-swarm.ts'

const PROMPT = 'Tell me a story about a fox.'
const MAX_TOKENS = 24

describe.skipIf(CHROMIUM === undefined)('tabs that reach each other', () => {
  let swarm: WebSwarm
  let browser: Browser
  let reference: string

  beforeAll(async () => {
    const args = [
      'chat',
      '--local',
      '--once',
      PROMPT,
      '--greedy',
      '--max-tokens',
      String(MAX_TOKENS),
      '--json',
    ]
    // Blocks 2 to 8 are for tabs.
    const [started, chromium, cli] = await Promise.all([
      startWebSwarm([{ start: 0, end: 2 }]),
      // Without the flag Chromium's WebRTC leaves loopback out.
      launchChromium(['--allow-loopback-in-peer-connection']),
      runChorale(args),
    ])
    swarm = started
    browser = chromium
    reference = (JSON.parse(cli.out) as { text: string }).text
  }, 120_000)

  afterAll(async () => {
    await browser?.close()
    await swarm?.close()
  })

  async function serve({ page }: Tab, start: number, end: number): Promise<void> {
    await page.getByLabel('Blocks', { exact: true }).fill(`${start}:${end}`)
    await page.getByRole('combobox', { name: 'Engine' }).selectOption('wasm')
    await page.getByRole('button', { name: 'Start' }).click()
    await page.getByText(`Serving blocks ${start}–${end - 1} of storyteller.`).waitFor({ timeout: 60_000 })
  }

  it('two tabs and one Node server form the whole chain, the tabs over WebRTC; the answer is the reference', async () => {
    const servers = [
      await openTab(browser, `${swarm.url}#/volunteer`),
      await openTab(browser, `${swarm.url}#/volunteer`),
    ]
    await Promise.all([serve(servers[0]!, 2, 5), serve(servers[1]!, 5, 8)])
    await until(
      async () => {
        const response = await fetch(new URL('api/v1/state', swarm.url))
        return ((await response.json()) as { ready: boolean }).ready
      },
      'the chain is complete',
      20_000,
    )
    const client = await openTab(browser, swarm.url)
    const { page } = client
    await waitForReady(page)
    await setAnswers(page, { Temperature: '0', 'Longest answer, tokens': String(MAX_TOKENS) })
    // The first answer may go through the relay while the tabs still look for a way of their own.
    let route = ''
    for (let ask = 0; ask < 6 && (route.match(/WebRTC/g) ?? []).length < 2; ask++) {
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
  }, 120_000)
})
