import { gzipSync } from 'node:zlib'
import { Command } from 'commander'
import type { Browser } from 'playwright-core'
import { ChoraleError } from '../../../src/errors.ts'
import type { LanguageModel } from '../../../src/session/language-model.ts'
import { createWebPages } from '../../web-pages.ts'
import { catchInterrupt } from '../chat/interrupt.ts'
import { openModelToAsk } from '../chat/open-model.ts'
import { startGateway } from '../gateway.ts'
import { type BareChromium, launchBareChromium } from './bare-chromium.ts'
import { findChromium } from './chromium.ts'
import { median, positiveFlag, roundTo } from './flags.ts'
import { answerRate, openChat, sendQuestion, waitFor } from './web-tab.ts'

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
  const executablePath = findChromium()
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
    const url = `${gateway.url}/`
    const watched = await chromium.launch({ executablePath, args: ['--no-sandbox'] })
    signal.addEventListener('abort', () => void watched.close())
    const jsGzipBytes: Record<string, number> = {}
    try {
      for (const page of PAGES) {
        jsGzipBytes[page] = await javascriptBytes(watched, `${url}#/${page === 'chat' ? '' : page}`)
      }
    } finally {
      await watched.close()
    }
    const bare = await launchBareChromium(executablePath)
    closers.push(() => bare.close())
    signal.addEventListener('abort', () => void bare.close())
    const speeds = await measure(bare, url, languageModel, { tokens, rounds })
    const report = { model: languageModel.model.name, jsGzipBytes, ...speeds }
    process.stdout.write(flags.json === true ? `${JSON.stringify(report)}\n` : inWords(report))
  } finally {
    for (const close of closers.toReversed()) await close()
    interrupt.release()
  }
}

async function measure(
  chromium: BareChromium,
  url: string,
  languageModel: LanguageModel,
  { tokens, rounds }: { readonly tokens: number; readonly rounds: number },
): Promise<Omit<WebReport, 'model' | 'jsGzipBytes'>> {
  const started = performance.now()
  const tab = await openChat(chromium, url, tokens)
  await waitFor(tab, { selector: '.model-state', text: 'Ready' })
  const coldStartMs = performance.now() - started
  await sendQuestion(tab, PROMPT)
  await waitFor(tab, { selector: '.message.assistant .markdown > *' })
  const firstTokenMs = performance.now() - started
  await answerRate(tab)

  const inTab: number[] = []
  const inNode: number[] = []
  for (let round = 0; round < rounds; round++) {
    inNode.push(await nodeTokS(languageModel, tokens))
    await sendQuestion(tab, PROMPT)
    inTab.push(await answerRate(tab))
  }
  await tab.close()
  return {
    coldStartMs: Math.round(coldStartMs),
    firstTokenMs: Math.round(firstTokenMs),
    tabTokS: roundTo(median(inTab), 1),
    nodeTokS: roundTo(median(inNode), 1),
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
