/** Tabs that serve, and what the swarm knows of them. */

import type { Page } from 'playwright-core'
import { until } from '../swarm/loopback.ts'

/** The swarm as a gateway sees it. */
export interface SwarmView {
  readonly ready: boolean
  readonly servers: readonly {
    readonly peer: string
    readonly start: number
    readonly end: number
    readonly engine: string
    readonly state: string
  }[]
}

export async function swarmView(url: string): Promise<SwarmView> {
  return (await (await fetch(new URL('api/v1/state', url))).json()) as SwarmView
}

/** Waits until the gateway at `url` knows servers of all blocks. */
export async function untilReady(url: string): Promise<void> {
  await until(async () => (await swarmView(url)).ready, 'the directory knows all blocks', LONG_MS)
}

/** A busy machine takes long to load a page, its engine and its way into the network. */
const LONG_MS = 60_000

/** Serves blocks START:END from the Volunteer page. @returns the tab's peer id. */
export async function serveBlocks(page: Page, blocks: string, engine = 'wasm'): Promise<string> {
  const [start, end] = blocks.split(':').map(Number) as [number, number]
  const serving = page.getByText(`Serving blocks ${start}–${end - 1} of storyteller.`)
  const failed = page.locator('.volunteer [role=alert]')
  const button = page.getByRole('button', { name: 'Start' })
  for (const deadline = Date.now() + LONG_MS; ;) {
    await page.getByLabel('Blocks', { exact: true }).fill(blocks)
    await page.getByRole('combobox', { name: 'Engine' }).selectOption(engine)
    await button.click()
    await serving.or(failed).first().waitFor({ timeout: LONG_MS })
    if (await serving.isVisible()) break
    // A relay that was too slow for the page's patience: a volunteer does what the page says.
    const why = await failed.first().innerText()
    if (!/try again/i.test(why) || Date.now() > deadline) throw new Error(`the tab does not serve: ${why}`)
  }
  return /Peer id\s+(\w+)/.exec(await page.locator('.volunteer .rows').innerText())?.[1] ?? ''
}

/** Waits until the gateway at `url` lists the tab `peer` with its blocks. */
export async function untilListed(url: string, peer: string, blocks: string, engine = 'wasm'): Promise<void> {
  await until(
    async () => {
      const own = (await swarmView(url)).servers.find((server) => server.peer === peer)
      return own?.state === 'online' && own.engine === engine && `${own.start}:${own.end}` === blocks
    },
    'the directory tells of the tab',
    LONG_MS,
  )
}
