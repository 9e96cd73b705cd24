import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { fourBit } from '../../node/cli/bench/draft-models.ts'
import type { Model } from '../../src/model/model.ts'
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
import { PROMPT } from '../web/story.ts'

const GOOD = 'small@0123456789ab'
const WRONG = 'wrong@0123456789ab'

/** A 4-bit copy of the model, and one whose tokens mean something else. */
function draftsOf(model: Model): readonly Model[] {
  const small = fourBit(model)
  const tokenizerFiles = async () => {
    const files = structuredClone((await model.tokenizerFiles())!)
    const inner = files.tokenizer['model'] as { vocab: Record<string, number> }
    const [a, b] = Object.keys(inner.vocab).filter((piece) => [500, 501].includes(inner.vocab[piece]!))
    ;[inner.vocab[a!], inner.vocab[b!]] = [inner.vocab[b!]!, inner.vocab[a!]!]
    return files
  }
  return [
    { ...small, id: GOOD, name: 'small' },
    { ...small, id: WRONG, name: 'wrong', tokenizerFiles },
  ]
}

describe.skipIf(CHROMIUM === undefined)('a draft model in a tab', () => {
  let swarm: WebSwarm
  let browser: Browser
  let tab: Tab
  let page: Page

  beforeAll(async () => {
    const started = startWebSwarm([{ start: 0, end: 8 }], undefined, undefined, draftsOf)
    ;[swarm, browser] = await Promise.all([started, launchChromium()])
    tab = await openTab(browser, swarm.url)
    page = tab.page
    await waitForReady(page)
    await setAnswers(page, { Temperature: '0', 'Longest answer, tokens': '60' })
  }, 120_000)

  afterAll(async () => {
    await browser?.close()
    await swarm?.close()
  })

  async function choose(id: string): Promise<void> {
    await page.getByRole('link', { name: 'Settings' }).click()
    await page.getByLabel('Draft model').selectOption(id)
    await page.getByRole('button', { name: 'Connect again' }).click()
  }

  it('is none by default; chosen by name it runs in the tab, and the text is the same', async () => {
    await sendMessage(page, PROMPT)
    const without = await answerText(page, 0)
    expect(tab.requests.filter(({ url }) => url.includes('/blocks/'))).toEqual([])

    await choose(GOOD)
    await page.getByText('In use: small.').waitFor({ timeout: 30_000 })
    const fetched = tab.requests.filter(({ url }) => /blocks\/small(@|%40)[^/]+\/\d\/bytes$/.test(url))
    expect(fetched).toHaveLength(8)
    await page.getByRole('link', { name: 'Chat', exact: true }).click()
    await page.getByRole('button', { name: 'New chat' }).click()
    await sendMessage(page, PROMPT)
    expect(await answerText(page, 0)).toBe(without)
  })

  it('with another tokenizer is refused in the log, and the chat goes on without', async () => {
    await choose(WRONG)
    await page.getByText('In use').waitFor({ state: 'detached' })
    await waitForReady(page)
    await page.getByText(/^Log \(/).click()
    const log = page.locator('.log-lines')
    await expect
      .poll(() => log.innerText())
      .toMatch(/no draft model: wrong can't draft for storyteller: token 500 is/)
    expect(await page.getByText('In use').count()).toBe(0)
    expect(tab.problems).toEqual([])
  })
})
