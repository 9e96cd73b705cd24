import { gzipSync } from 'node:zlib'
import { Command } from 'commander'
import type { Browser, Page } from 'playwright-core'
import { ChoraleError } from '../../../src/errors.ts'
import type { LanguageModel } from '../../../src/session/language-model.ts'
import { createWebPages } from '../../web-pages.ts'
import { catchInterrupt } from '../chat/interrupt.ts'
import { openModelToAsk } from '../chat/open-model.ts'
import { startGateway } from '../gateway.ts'
import { findChromium } from './chromium.ts'
import { median, positiveFlag, roundTo } from './flags.ts'

interface Flags {
  tokens: string
  rounds: string
  json?: boolean
}

/** What `--json` prints. */
interface WebReport {
  readonly model: string
  /** JavaScript that each page loads in a fresh profile, gzipped, without wasm. */
  readonly jsGzipBytes: Readonly<Record<string, number>>
  /** From opening the page in a fresh profile until the tab has its model. */
  readonly coldStartMs: number
  /** From opening the page in a fresh profile until the first token of a question that was sent at once. */
  readonly firstTokenMs: number
  readonly tabTokS: number
  readonly nodeTokS: number
}

const PAGES = ['chat', 'volunteer', 'swarm', 'wallet', 'settings'] as const
/** A page whose scripts did not grow for this long has all it needs. */
const QUIET_MS = 1_000
const PROMPT = 'Tell me a story about a fox.'

/** `chorale bench web`: what the page weighs, how soon it answers, and its speed beside a Node client on the same swarm. */
export function webBenchCommand(): Command {
  return new Command('web')
    .description("measure the page in headless Chromium: its size, its cold start, its speed beside Node's")
    .argument('[model]', 'folder, .gguf file or hub name (default: the bundled model)')
    .option('--tokens <n>', 'tokens of an answer', '128')
    .option('--rounds <n>', 'answers of each, in turns', '5')
    .option('--json', 'print one JSON object')
    .addHelpText(
      'after',
      '\nNeeds Chromium (CHROMIUM_PATH, or the package chromium) and playwright-core, a development dependency.',
    )
    .action(runWebBench)
}

async function runWebBench(reference: string | undefined, flags: Flags): Promise<void> {
  const tokens = positiveFlag(flags.tokens, 'tokens')
  const rounds = positiveFlag(flags.rounds, 'rounds')
  const executablePath = await findChromium()
  if (executablePath === undefined) {
    throw new ChoraleError(
      'not_found',
      'bench web needs Chromium: install the package chromium, or set CHROMIUM_PATH',
    )
  }
  const { chromium } = await import('playwright-core')
  const interrupt = catchInterrupt()
  const { signal } = interrupt
  const pages = createWebPages()
  const closers: (() => Promise<unknown>)[] = []
  try {
    await pages.ready()
    const opened = await openModelToAsk({
      reference,
      revision: undefined,
      engine: 'auto',
      local: false,
      bootstrap: undefined,
      signal,
    })
    closers.push(() => opened.close())
    const { languageModel, swarmState } = opened
    const gateway = await startGateway({
      models: () => [languageModel],
      port: 0,
      pages,
      ...(swarmState && { swarmState }),
    })
    closers.push(() => gateway.close(0))
    const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] })
    closers.push(() => browser.close())
    signal.addEventListener('abort', () => void browser.close())
    const report = await measure(browser, `${gateway.url}/`, languageModel, { tokens, rounds })
    process.stdout.write(flags.json === true ? `${JSON.stringify(report)}\n` : inWords(report))
  } finally {
    for (const close of closers.toReversed()) await close()
    interrupt.release()
  }
}

async function measure(
  browser: Browser,
  url: string,
  languageModel: LanguageModel,
  { tokens, rounds }: { readonly tokens: number; readonly rounds: number },
): Promise<WebReport> {
  const jsGzipBytes: Record<string, number> = {}
  for (const page of PAGES)
    jsGzipBytes[page] = await javascriptBytes(browser, `${url}#/${page === 'chat' ? '' : page}`)

  const context = await browser.newContext()
  const page = await context.newPage()
  const started = performance.now()
  await page.goto(url)
  await setAnswers(page, tokens)
  await page.locator('.model-state', { hasText: 'Ready' }).waitFor({ state: 'attached' })
  const coldStartMs = performance.now() - started
  const first = ask(page)
  // Looked at below; it also fails when the browser is closed before.
  first.catch(() => undefined)
  // A short answer may be complete before anybody looks.
  await page.locator('.message.assistant .markdown > *').first().waitFor({ state: 'attached' })
  const firstTokenMs = performance.now() - started
  await first

  const tab: number[] = []
  const node: number[] = []
  for (let round = 0; round < rounds; round++) {
    node.push(await nodeTokS(languageModel, tokens))
    tab.push(await ask(page))
  }
  await context.close()
  return {
    model: languageModel.model.name,
    jsGzipBytes,
    coldStartMs: Math.round(coldStartMs),
    firstTokenMs: Math.round(firstTokenMs),
    tabTokS: roundTo(median(tab), 1),
    nodeTokS: roundTo(median(node), 1),
  }
}

/** Gzipped bytes of all scripts that a page and its workers load in a fresh profile until the network is quiet. */
async function javascriptBytes(browser: Browser, url: string): Promise<number> {
  const context = await browser.newContext()
  const bodies: Promise<number>[] = []
  context.on('response', (response) => {
    // What the service worker hands out it fetched before: the same script for another thread.
    if (!new URL(response.url()).pathname.endsWith('.js') || response.fromServiceWorker()) return
    bodies.push(response.body().then((body) => gzipSync(body).length))
  })
  const page = await context.newPage()
  await page.goto(url)
  // Not until the network is idle: the Swarm page keeps a stream of events open.
  await page.locator('.model-state', { hasText: 'Ready' }).waitFor({ state: 'attached' })
  for (let seen = -1; seen !== bodies.length; await page.waitForTimeout(QUIET_MS)) seen = bodies.length
  const sizes = await Promise.all(bodies)
  await context.close()
  return sizes.reduce((sum, size) => sum + size, 0)
}

/** Greedy answers of a fixed length, so that tab and Node do the same. */
async function setAnswers(page: Page, tokens: number): Promise<void> {
  const chat = page.url()
  await page.goto(`${chat}#/settings`)
  await page.getByLabel('Temperature').fill('0')
  await page.getByLabel('Longest answer, tokens').fill(String(tokens))
  await page.goto(chat)
}

/** Asks in a new chat. @returns tokens per second after the first, as the page shows them. */
async function ask(page: Page): Promise<number> {
  await page.getByRole('button', { name: 'New chat' }).first().click()
  await page.getByLabel('Your message', { exact: true }).fill(PROMPT)
  await page.keyboard.press('Enter')
  const accept = page.getByRole('button', { name: 'I understand' })
  const growing = page.locator('.message.growing')
  await accept.or(growing).first().waitFor()
  if (await accept.isVisible()) await accept.click()
  const facts = page.locator('.message.assistant:not(.growing) .facts summary')
  await facts.waitFor()
  const rate = /([\d.]+) tok\/s/.exec(await facts.innerText())?.[1]
  if (rate === undefined) throw new ChoraleError('internal', 'the page shows no speed: ask for more --tokens')
  return Number(rate)
}

async function nodeTokS(languageModel: LanguageModel, maxTokens: number): Promise<number> {
  const { tokenizer } = languageModel
  const promptIds = tokenizer.hasChatTemplate
    ? tokenizer.encodeChat([{ role: 'user', content: PROMPT }])
    : tokenizer.encode(PROMPT)
  for await (const event of languageModel.generate({ promptIds, sampling: { temperature: 0 }, maxTokens })) {
    if (event.type !== 'done') continue
    return ((event.usage.completionTokens - 1) * 1_000) / event.timings.decodeMs
  }
  throw new ChoraleError('internal', 'the answer did not end')
}

function inWords(report: WebReport): string {
  const sizes = PAGES.map((page) => `${page} ${Math.round((report.jsGzipBytes[page] ?? 0) / 1_000)} kB`)
  return [
    report.model,
    `JavaScript, gzipped: ${sizes.join(', ')}`,
    `cold start ${report.coldStartMs} ms, first token ${report.firstTokenMs} ms after opening the page`,
    `tab ${report.tabTokS} tok/s, Node ${report.nodeTokS} tok/s: ${roundTo(report.tabTokS / report.nodeTokS, 2)}`,
    '',
  ].join('\n')
}
