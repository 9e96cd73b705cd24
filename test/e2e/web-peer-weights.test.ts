import type { Browser } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { joinNetwork } from '../../node/join-network.ts'
import { silentLogger } from '../../src/log.ts'
import { PIECE_BYTES } from '../../src/model/blob.ts'
import { askBlobOver } from '../../src/swarm/ask-blob.ts'
import { fetchBlobs } from '../../src/swarm/blob-fetch.ts'
import { runChorale } from '../cli/run-chorale.ts'
import { until } from '../swarm/loopback.ts'
import { answerText, CHROMIUM, launchChromium, openTab, sendMessage, waitForReady } from '../web/chromium.ts'
import { startWebSwarm, type WebSwarm } from '../web/web-swarm.ts'
import { PROMPT } from '../web/story.ts'

const MAX_TOKENS = 16

interface BlockDescription {
  readonly root: string
  readonly byteLength: number
}

describe.skipIf(CHROMIUM === undefined)('a tab whose gateway gives no weights', () => {
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
    const [started, chromium, cli] = await Promise.all([
      // The second server gives wrong bytes. Blocks 5 to 8 are for the tab as well.
      startWebSwarm(
        [
          { start: 0, end: 5 },
          { start: 5, end: 8 },
        ],
        undefined,
        { liar: 1 },
      ),
      launchChromium(),
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

  const weightRequests = (requests: readonly { readonly url: string }[]) =>
    requests.filter(({ url }) => /\/api\/v1\/(client\/[^/]+\/|blocks\/[^/]+\/\d+\/bytes)/.test(url))

  it('becomes a client from peers, one of which lies, and answers as the reference', async () => {
    const tab = await openTab(browser, swarm.url)
    const { page } = tab
    await waitForReady(page)
    expect(weightRequests(tab.requests)).toEqual([])
    // Who is asked first is chance; the liar is named where it was asked.
    const liar = swarm.servers[1]!.blobs!.sent.pieces
    await page.getByRole('link', { name: 'Settings' }).click()
    const log = (await page.locator('.log-lines').textContent()) ?? ''
    expect(/wrong weights/.test(log)).toBe(liar > 0)
    await page.evaluate(() => {
      const known = JSON.parse(localStorage.getItem('chorale-settings') ?? '{}') as object
      localStorage.setItem(
        'chorale-settings',
        JSON.stringify({ ...known, privacyAccepted: true, answers: { temperature: 0, maxTokens: 16 } }),
      )
    })
    const before = swarm.servers[0]!.blobs!.sent.pieces
    await page.goto(swarm.url)
    await page.reload()
    await waitForReady(page)
    await sendMessage(page, PROMPT)
    expect(await answerText(page, 0)).toBe(reference.trim())
    // After the reload everything was in the cache.
    const [honest] = swarm.servers.map(({ blobs }) => blobs!.sent)
    expect(honest!.pieces).toBe(before)
    expect(before).toBeGreaterThan(0)
    await page.getByRole('link', { name: 'Settings' }).click()
    // The cache is shown as it fills: whole pieces of everything that the tab loaded.
    await page.getByText(/Model parts kept in this browser: [1-9][\d.]* [kM]B/).waitFor()
    expect(tab.problems).toEqual([])
    await tab.context.close()
  })

  it('serves blocks from peers, a Node client’s answer passes it, and it gives them to others', async () => {
    const tab = await openTab(browser, `${swarm.url}#/volunteer`)
    const { page } = tab
    await page.getByLabel('Blocks', { exact: true }).fill('5:8')
    await page.getByRole('combobox', { name: 'Engine' }).selectOption('wasm')
    await page.getByRole('button', { name: 'Start' }).click()
    await page.getByText('Serving blocks 5–7 of storyteller.').waitFor({ timeout: 60_000 })
    expect(weightRequests(tab.requests)).toEqual([])
    const peerId = /Peer id\s+(\w+)/.exec(await page.locator('.volunteer .rows').innerText())?.[1] ?? ''
    const id = ((await (await fetch(new URL('api/v1/state', swarm.url))).json()) as { model: string }).model

    // The only other server of these blocks goes, so the answer must pass the tab.
    await swarm.servers[1]!.server.stop(0)
    const body = { model: 'storyteller', messages: [{ role: 'user', content: PROMPT }], temperature: 0 }
    const response = await fetch(new URL('v1/chat/completions', swarm.url), {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ ...body, max_tokens: MAX_TOKENS }),
    })
    const answer = (await response.json()) as {
      choices: [{ message: { content: string } }]
      swarm: { route: { peer: string }[] }
    }
    expect(answer.swarm.route.map(({ peer }) => peer)).toContain(peerId)
    expect(answer.choices[0].message.content).toBe(reference)

    const { network } = swarm.servers[0]!
    const joined = await joinNetwork({
      bootstrap: network.peer.addrs(),
      mode: 'client',
      log: silentLogger,
    })
    try {
      let addrs: readonly string[] = []
      await until(async () => {
        const own = (await joined.directory.servers(id)).find((server) => server.peerId === peerId)
        addrs = own?.addrs ?? []
        return own?.blobs === true
      }, 'the directory says that the tab shares')
      const block = (await (
        await fetch(new URL(`api/v1/blocks/${encodeURIComponent(id)}/6`, swarm.url))
      ).json()) as BlockDescription
      const bytes = new Uint8Array(block.byteLength)
      const { missing, from } = await fetchBlobs(
        [
          {
            ...block,
            pieces: Array.from({ length: Math.ceil(block.byteLength / PIECE_BYTES) }, (_, i) => i),
          },
        ],
        {
          ask: askBlobOver(joined.peer),
          sources: async () => [{ peerId, addrs }],
          keepList: async () => undefined,
          keepPiece: async (_, index, piece) => bytes.set(piece, index * PIECE_BYTES),
        },
      )
      expect(missing).toEqual([])
      expect(from.get(peerId)).toBe(block.byteLength)
    } finally {
      await joined.close()
    }
    expect(tab.problems).toEqual([])
    await tab.context.close()
  })
})
