/** A real Chromium for tests of the pages, headless and on loopback. */

import { type Browser, type BrowserContext, chromium, type Page } from 'playwright-core'
import { findChromium } from '../../node/cli/bench/chromium.ts'

/** Path of a Chromium on this machine. */
export const CHROMIUM = findChromium()

if (CHROMIUM === undefined) {
  console.log(
    'skipped: no Chromium here; install one (Debian: apt-get install chromium) or set CHROMIUM_PATH',
  )
}

export async function launchChromium(flags: readonly string[] = []): Promise<Browser> {
  return await chromium.launch({
    executablePath: CHROMIUM!,
    // Tests run as root in containers; the pages under test are our own.
    args: ['--no-sandbox', ...flags],
  })
}

/** How long a tab may take for anything; a busy machine needs most of it now and then. */
const BUSY_MS = 60_000

/** A tab, and what went wrong in it. */
export interface Tab {
  readonly context: BrowserContext
  readonly page: Page
  /** Console errors, uncaught exceptions, requests to other hosts. */
  readonly problems: readonly string[]
  /** Every HTTP request with its body. */
  readonly requests: readonly { readonly method: string; readonly url: string; readonly body: string }[]
}

/** Opens a tab on `url` that is told light colours and may use the clipboard. */
export async function openTab(browser: Browser, url: string): Promise<Tab> {
  const context = await browser.newContext({
    viewport: { width: 1280, height: 800 },
    colorScheme: 'light',
    permissions: ['clipboard-read', 'clipboard-write'],
  })
  context.setDefaultTimeout(BUSY_MS)
  const page = await context.newPage()
  const problems: string[] = []
  const requests: { method: string; url: string; body: string }[] = []
  page.on('console', (message) => {
    if (message.type() === 'error') problems.push(`console: ${message.text()}`)
  })
  page.on('pageerror', (error) => problems.push(`uncaught: ${String(error.stack)}`))
  page.on('dialog', (dialog) => {
    problems.push(`dialog: ${dialog.message()}`)
    void dialog.dismiss()
  })
  page.on('request', (request) => {
    requests.push({ method: request.method(), url: request.url(), body: request.postData() ?? '' })
    const { protocol, host } = new URL(request.url())
    if (protocol.startsWith('http') && host !== new URL(url).host) problems.push(`request: ${request.url()}`)
  })
  await page.goto(url)
  return { context, page, problems, requests }
}

/** Waits until the tab has its model. */
export async function waitForReady(page: Page): Promise<void> {
  await page.locator('.model-state', { hasText: 'Ready' }).waitFor({ state: 'attached', timeout: BUSY_MS })
}

/** Sets fields of Settings → Answers by their labels. */
export async function setAnswers(page: Page, fields: Readonly<Record<string, string>>): Promise<void> {
  await page.getByRole('link', { name: 'Settings' }).click()
  for (const [label, value] of Object.entries(fields)) await page.getByLabel(label).fill(value)
  await page.getByRole('link', { name: 'Chat', exact: true }).click()
}

/** Sends a message, accepting the notice where it is shown. */
export async function sendMessage(page: Page, text: string): Promise<void> {
  await page.getByLabel('Your message', { exact: true }).fill(text)
  await page.keyboard.press('Enter')
  const accept = page.getByRole('button', { name: 'I understand' })
  const growing = page.locator('.message.growing')
  await accept.or(growing).first().waitFor()
  if (await accept.isVisible()) await accept.click()
  await growing.waitFor({ state: 'attached' })
}

/** The text of answer number `index`, once it is complete. */
export async function answerText(page: Page, index: number): Promise<string> {
  const answer = page.locator('.message.assistant:not(.growing)').nth(index)
  await answer.locator('.facts').waitFor({ timeout: BUSY_MS })
  return await answer.locator('.markdown').innerText()
}
