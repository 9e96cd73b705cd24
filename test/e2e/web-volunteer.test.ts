import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { runChorale } from '../cli/run-chorale.ts'
import { until } from '../swarm/loopback.ts'
import { CHROMIUM, launchChromium, openTab, type Tab } from '../web/chromium.ts'
import { startWebSwarm, type WebSwarm } from '../web/web-swarm.ts'

const PROMPT = 'Tell me a story about a fox.'
const MAX_TOKENS = 24
const SHOTS = join(import.meta.dirname, '../../test-results/web')

interface State {
  readonly ready: boolean
  readonly servers: readonly { peer: string; start: number; end: number; engine: string; state: string }[]
}

describe.skipIf(CHROMIUM === undefined)('a tab that serves', () => {
  let swarm: WebSwarm
  let browser: Browser
  let tab: Tab
  let page: Page
  let reference: string

  beforeAll(async () => {
    mkdirSync(SHOTS, { recursive: true })
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
    // Blocks 4 to 8 are for the tab.
    const [started, chromium, cli] = await Promise.all([
      startWebSwarm([{ start: 0, end: 4 }]),
      launchChromium(),
      runChorale(args),
    ])
    swarm = started
    browser = chromium
    reference = (JSON.parse(cli.out) as { text: string }).text
    tab = await openTab(browser, `${swarm.url}#/volunteer`)
    page = tab.page
  }, 120_000)

  afterAll(async () => {
    await browser?.close()
    await swarm?.close()
  })

  const state = async () => (await (await fetch(new URL('api/v1/state', swarm.url))).json()) as State

  /** Starts serving blocks 4 to 8 in `on` and waits until the swarm knows. */
  async function serve(on: Page, engine: string, blocks = '4:8'): Promise<string> {
    const [start, end] = blocks.split(':').map(Number) as [number, number]
    await on.getByLabel('Blocks', { exact: true }).fill(blocks)
    await on.getByRole('combobox', { name: 'Engine' }).selectOption(engine)
    await on.getByRole('button', { name: 'Start' }).click()
    await on.getByText(`Serving blocks ${start}–${end - 1} of storyteller.`).waitFor({ timeout: 60_000 })
    const rows = on.locator('.volunteer .rows')
    const peer = /Peer id\s+(\w+)/.exec(await rows.innerText())?.[1] ?? ''
    await until(
      async () => {
        const own = (await state()).servers.find((server) => server.peer === peer)
        return own?.state === 'online' && own.engine === engine && own.start === start && own.end === end
      },
      'the directory tells of the tab',
      10_000,
    )
    return peer
  }

  /** An answer of a client in Node. */
  async function ask(): Promise<{ text: string; peers: readonly string[] }> {
    const response = await fetch(new URL('v1/chat/completions', swarm.url), {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({
        model: 'storyteller',
        messages: [{ role: 'user', content: PROMPT }],
        temperature: 0,
        max_tokens: MAX_TOKENS,
      }),
    })
    const body = (await response.json()) as {
      choices: [{ message: { content: string } }]
      swarm: { route: { peer: string }[] }
    }
    expect(response.status, JSON.stringify(body)).toBe(200)
    return { text: body.choices[0].message.content, peers: body.swarm.route.map(({ peer }) => peer) }
  }

  it('says before the start what it would serve and what this device can do', async () => {
    await page.getByText(/Suggested: blocks 0–7\. [\d.]+ MB to load/).waitFor()
    const checks = page.locator('.checks li')
    await expect.poll(() => checks.count()).toBe(5)
    expect(await page.locator('.checks').innerText()).toMatch(/WebAssembly.*with SIMD and shared memory/s)
    for (const item of await checks.all()) {
      const poor = (await item.locator('.check-mark.good').count()) === 0
      expect((await item.locator('p').count()) > 0, await item.innerText()).toBe(poor)
    }
  })

  it('serves a span on WebAssembly: the answer of a Node client passes through it and is the reference', async () => {
    const peer = await serve(page, 'wasm')
    const { text, peers } = await ask()
    expect(peers).toContain(peer)
    expect(text).toBe(reference)
    await expect
      .poll(async () => Number(/Tokens computed\s+(\d+)/.exec(await page.locator('.rows').innerText())?.[1]))
      .toBeGreaterThanOrEqual(MAX_TOKENS)
    await page.screenshot({ path: join(SHOTS, 'volunteer-light.png'), fullPage: true })
  })

  it('finishes what runs, then leaves the swarm', async () => {
    const [answer] = await Promise.all([
      ask(),
      (async () => {
        await until(() => swarm.sessions() > 0, 'the answer runs')
        await page.getByRole('button', { name: 'Finish' }).click()
      })(),
    ])
    expect(answer.text).toBe(reference)
    await page.getByText('Not serving.').waitFor({ timeout: 30_000 })
    await until(async () => !(await state()).ready, 'the swarm lacks its blocks')
  })

  it('a tab that is closed in the middle of an answer is replaced by another; the answer is the same', async () => {
    await serve(page, 'wasm')
    const other = await openTab(browser, `${swarm.url}#/volunteer`)
    const asking = ask()
    await until(() => swarm.sessions() > 0, 'the answer runs')
    await Promise.all([page.close(), serve(other.page, 'wasm')])
    expect((await asking).text).toBe(reference)
    expect(other.problems).toEqual([])
    await other.context.close()
  })

  it('two tabs and a Node server form the whole chain, each tab behind a relay', async () => {
    const tabs = [
      await openTab(browser, `${swarm.url}#/volunteer`),
      await openTab(browser, `${swarm.url}#/volunteer`),
    ]
    await Promise.all(tabs.map((one, index) => serve(one.page, 'wasm', index === 0 ? '4:6' : '6:8')))
    const { text, peers } = await ask()
    expect(new Set(peers).size).toBe(3)
    expect(text).toBe(reference)
    expect(tabs.flatMap(({ problems }) => problems)).toEqual([])
    await Promise.all(tabs.map(({ context }) => context.close()))
  })

  it('serves a span on WebGPU', async () => {
    // A software adapter: slow, and taken because it is asked for by name.
    const gpu = await launchChromium(['--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader'])
    try {
      const other = await openTab(gpu, `${swarm.url}#/volunteer`)
      const peer = await serve(other.page, 'wgsl')
      const { text, peers } = await ask()
      expect(peers).toContain(peer)
      expect(text).toBe(reference)
      expect(other.problems).toEqual([])
    } finally {
      await gpu.close()
    }
  })

  it('reported no error and asked no other host', () => {
    expect(tab.problems).toEqual([])
  })
})
