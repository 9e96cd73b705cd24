import type { Browser, Page } from 'playwright-core'
import { ChoraleError } from '../../../src/errors.ts'
import type { Span } from '../../../src/session/span-runner.ts'
import { findChromium } from '../bench/chromium.ts'
import { type FaultKind, healing, type Victim } from './faults.ts'

/** Tabs of one headless Chromium that serve blocks. */
export interface ServingTabs {
  readonly victims: readonly Victim[]
  close(): Promise<void>
}

export interface ServingTabsOptions {
  /** Where the pages are. */
  readonly url: string
  readonly span: Span
  readonly count: number
  /** Restarts the peer that relays for the tabs, and waits till it is back. */
  readonly restartRelay: () => Promise<void>
  /** Waits till the directory shows the peer at work. */
  readonly atWork: (peerId: string) => Promise<void>
}

const SERVING_MS = 60_000
const POLL_MS = 100

/** Opens tabs that serve `span`. @throws `not_found` without a Chromium. */
export async function openServingTabs(options: ServingTabsOptions): Promise<ServingTabs> {
  const executablePath = findChromium()
  if (executablePath === undefined) {
    throw new ChoraleError(
      'not_found',
      '--browser needs Chromium: install the package chromium, or set CHROMIUM_PATH',
    )
  }
  const { chromium } = await import('playwright-core')
  const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] })
  try {
    const relay = healing()
    const tabs: Tab[] = []
    const restartRelay = async (): Promise<void> => {
      const names = tabs.map((tab) => tab.peerId())
      await options.restartRelay()
      // The tabs notice, join anew and are announced under new names.
      await Promise.all(tabs.map((tab, index) => tab.serving(names[index])))
    }
    const victims = await Promise.all(
      Array.from({ length: options.count }, async (_, index) => {
        tabs[index] = await openTab(browser, options)
        return tabVictim(browser, options, tabs, index, { ...relay, restart: restartRelay })
      }),
    )
    return { victims, close: () => browser.close() }
  } catch (error) {
    await browser.close()
    throw error
  }
}

function tabVictim(
  browser: Browser,
  options: ServingTabsOptions,
  tabs: Tab[],
  index: number,
  relay: ReturnType<typeof healing> & { readonly restart: () => Promise<void> },
): Victim {
  const { heal, well } = healing()
  return {
    get peerId() {
      return tabs[index]!.peerId()
    },
    kinds: new Set<FaultKind>(['tab-close', 'relay-restart']),
    hurt(kind) {
      if (kind === 'relay-restart') {
        const back = relay.restart()
        back.catch(() => undefined)
        return () => relay.heal(back)
      }
      const closing = tabs[index]!.page.context().close()
      const replace = async (): Promise<void> => {
        await closing
        tabs[index] = await openTab(browser, options)
      }
      return () => heal(replace())
    },
    well: async () => {
      await relay.well()
      await well()
    },
  }
}

interface Tab {
  readonly page: Page
  peerId(): string
  /** Waits till the tab serves, under another name than `before`. */
  serving(before?: string): Promise<void>
}

async function openTab(browser: Browser, { url, span, atWork }: ServingTabsOptions): Promise<Tab> {
  const context = await browser.newContext()
  const page = await context.newPage()
  page.setDefaultTimeout(SERVING_MS)
  await page.goto(`${url}#/volunteer`)
  await page.getByLabel('Blocks', { exact: true }).fill(`${span.start}:${span.end}`)
  await page.getByRole('combobox', { name: 'Engine' }).selectOption('wasm')
  await page.getByRole('button', { name: 'Start' }).click()
  const rows = page.locator('.volunteer .rows')
  let peerId = ''
  const serving = async (before = ''): Promise<void> => {
    const deadline = Date.now() + SERVING_MS
    for (;;) {
      const shown = (await rows.count()) > 0 ? await rows.first().innerText() : ''
      const name = /Peer id\s+(\w+)/.exec(shown)?.[1] ?? ''
      if (name !== '' && name !== before) {
        peerId = name
        return await atWork(name)
      }
      if (Date.now() > deadline) throw new ChoraleError('timeout', `a tab did not serve: ${shown}`)
      await new Promise((resolve) => setTimeout(resolve, POLL_MS))
    }
  }
  await serving()
  return { page, peerId: () => peerId, serving }
}
