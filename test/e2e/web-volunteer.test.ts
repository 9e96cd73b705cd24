import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { until } from '../swarm/loopback.ts'
import { CHROMIUM, launchChromium, openTab, type Tab } from '../web/chromium.ts'
import { serveBlocks, swarmView, untilListed } from '../web/serving-tab.ts'
import { askGateway, referenceStory } from '../web/story.ts'
import { startWebSwarm, type WebSwarm } from '../web/web-swarm.ts'

const MAX_TOKENS = 24
/** For tests in which tabs start to serve: a busy machine takes its time. */
const LONG_MS = 180_000
/** A step of an answer that is to last; less than a client's patience. */
const SLOW_MS = 1_200
const SHOTS = join(import.meta.dirname, '../../test-results/web')

describe.skipIf(CHROMIUM === undefined)('a tab that serves', () => {
  let swarm: WebSwarm
  let browser: Browser
  let tab: Tab
  let page: Page
  let reference: string

  beforeAll(async () => {
    mkdirSync(SHOTS, { recursive: true })
    // Blocks 4 to 8 are for the tab.
    ;[swarm, browser, reference] = await Promise.all([
      startWebSwarm([{ start: 0, end: 4 }]),
      launchChromium(),
      referenceStory(MAX_TOKENS),
    ])
    tab = await openTab(browser, `${swarm.url}#/volunteer`)
    page = tab.page
  }, 240_000)

  afterAll(async () => {
    await browser?.close()
    await swarm?.close()
  })

  const ask = () => askGateway(swarm.url, MAX_TOKENS)

  /** Starts serving in `on` and waits until the swarm knows. @returns the tab's peer id. */
  async function serve(on: Page, engine: string, blocks = '4:8'): Promise<string> {
    const peer = await serveBlocks(on, blocks, engine)
    await untilListed(swarm.url, peer, blocks, engine)
    return peer
  }

  it('says before the start what it would serve and what this device can do', async () => {
    // Blocks 4 to 7 have no server.
    await page.getByText(/Suggested: blocks [0-4]–7\. [\d.]+ MB to load/).waitFor()
    const checks = page.locator('.checks li')
    await expect.poll(() => checks.count()).toBe(5)
    expect(await page.locator('.checks').innerText()).toMatch(/WebAssembly.*with SIMD and shared memory/s)
    for (const item of await checks.all()) {
      const poor = (await item.locator('.check-mark.good').count()) === 0
      expect((await item.locator('p').count()) > 0, await item.innerText()).toBe(poor)
    }
  })

  it(
    'serves a span on WebAssembly: the answer of a Node client passes through it and is the reference',
    async () => {
      const peer = await serve(page, 'wasm')
      const { text, peers } = await ask()
      expect(peers).toContain(peer)
      expect(text).toBe(reference)
      await expect
        .poll(async () =>
          Number(/Tokens computed\s+(\d+)/.exec(await page.locator('.rows').innerText())?.[1]),
        )
        .toBeGreaterThanOrEqual(MAX_TOKENS)
      await page.screenshot({ path: join(SHOTS, 'volunteer-light.png'), fullPage: true })
    },
    LONG_MS,
  )

  it('finishes what runs, then leaves the swarm', async () => {
    const [answer] = await Promise.all([
      ask(),
      (async () => {
        await until(() => swarm.sessions() > 0, 'the answer runs', 20_000)
        await page.getByRole('button', { name: 'Finish' }).click()
      })(),
    ])
    expect(answer.text).toBe(reference)
    await page.getByText('Not serving.').waitFor({ timeout: 30_000 })
    await until(async () => !(await swarmView(swarm.url)).ready, 'the swarm lacks its blocks', 20_000)
  })

  it(
    'a tab that is closed in the middle of an answer is replaced by another; the answer is the same',
    async () => {
      const first = await serve(page, 'wasm')
      const other = await openTab(browser, `${swarm.url}#/volunteer`)
      // The answer lasts until the other tab is there, however busy the machine is.
      swarm.slowDown(SLOW_MS)
      try {
        const asking = ask()
        await until(() => swarm.sessions() > 0, 'the answer runs', 20_000)
        const second = await serve(other.page, 'wasm')
        await page.close()
        swarm.slowDown(0)
        const answer = await asking
        expect(answer.text).toBe(reference)
        expect(answer.failovers).toBeGreaterThan(0)
        expect(answer.peers).toContain(second)
        expect(answer.peers).not.toContain(first)
      } finally {
        swarm.slowDown(0)
      }
      expect(other.problems).toEqual([])
      await other.context.close()
    },
    LONG_MS,
  )

  it(
    'two tabs and a Node server form the whole chain, each tab behind a relay',
    async () => {
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
    },
    LONG_MS,
  )

  it(
    'serves a span on WebGPU',
    async () => {
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
    },
    LONG_MS,
  )

  it('reported no error and asked no other host', () => {
    expect(tab.problems).toEqual([])
  })
})
