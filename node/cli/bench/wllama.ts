/**
 * A rival of `bench local`: wllama, llama.cpp compiled to WebAssembly, in headless Chromium without GPU layers.
 *
 * Run as `node wllama.ts FOLDER '{"model": …, "threads": …}'` it prints one JSON line. The page talks to this
 * process over loopback only.
 */
import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { basename, join, normalize } from 'node:path'
import { findChromium } from './chromium.ts'
import { median, roundTo } from './flags.ts'
import type { LocalJob, LocalMeasure } from './measure-local.ts'
import { installRival, type Installed } from './rival-package.ts'

const VERSION = '3.8.1'
const TYPES: Readonly<Record<string, string>> = { js: 'text/javascript', wasm: 'application/wasm' }

/** Installs wllama; needs a Chromium of the system and playwright-core. */
export async function installWllama(): Promise<Installed> {
  if (findChromium() === undefined) return { reason: 'wllama needs Chromium: install the package chromium' }
  try {
    await import('playwright-core')
  } catch {
    return { reason: 'wllama needs playwright-core, a development dependency of this repository' }
  }
  return await installRival(`wllama-${VERSION}`, [`@wllama/wllama@${VERSION}`])
}

/** llama.cpp's own figures of one completion. */
interface Timings {
  readonly prompt_per_second: number
  readonly predicted_per_second: number
}

/** Runs in the page. */
const PAGE = `<!doctype html><link rel="icon" href="data:,"><script type="module">
import { Wllama } from '/esm/index.js'
window.measure = async ({ threads, promptTokens, decodeTokens, rounds }) => {
  const wllama = new Wllama({ default: '/esm/wasm/wllama.wasm' }, { suppressNativeLog: true })
  const started = performance.now()
  const model = await (await fetch('/model.gguf')).blob()
  const n_ctx = promptTokens + decodeTokens + 64
  await wllama.loadModel([model], { n_gpu_layers: 0, n_threads: threads, n_ctx })
  const loadMs = performance.now() - started
  // One token a word.
  const words = ['the', 'cat', 'sat', 'on', 'a', 'mat', 'and']
  const timings = []
  for (let round = 0; round <= rounds; round++) {
    const prompt = Array.from({ length: promptTokens }, (_, at) => words[(at + round) % words.length]).join(' ')
    const options = { prompt, max_tokens: decodeTokens, temperature: 0, cache_prompt: false, ignore_eos: true }
    const answer = await wllama.createCompletion(options)
    if (round > 0) timings.push(answer.timings)
  }
  return { loadMs, timings }
}
</script>`

async function measure(folder: string, job: LocalJob): Promise<LocalMeasure> {
  const { chromium } = await import('playwright-core')
  const executablePath = findChromium()
  if (executablePath === undefined) throw new Error('no Chromium')
  const server = await serveFiles(join(folder, 'node_modules/@wllama/wllama'), job.model)
  const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] })
  try {
    const page = await browser.newPage()
    await page.goto(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`)
    await page.waitForFunction('window.measure')
    const result: { loadMs: number; timings: Timings[] } = await page.evaluate(
      `window.measure(${JSON.stringify(job)})`,
    )
    return {
      model: basename(job.model),
      engine: 'wllama',
      threads: job.threads,
      prefillTokS: roundTo(median(result.timings.map((one) => one.prompt_per_second)), 1),
      decodeTokS: roundTo(median(result.timings.map((one) => one.predicted_per_second)), 1),
      loadMs: Math.round(result.loadMs),
      // It lives in Chromium's processes, shared with what else Chromium does.
      rssMiB: null,
    }
  } finally {
    await browser.close()
    server.close()
  }
}

/** Serves the page, wllama's files and the model with the headers that allow threads. */
function serveFiles(folder: string, model: string): Promise<Server> {
  const answer = async (request: IncomingMessage, response: ServerResponse) => {
    response.setHeader('Cross-Origin-Opener-Policy', 'same-origin')
    response.setHeader('Cross-Origin-Embedder-Policy', 'require-corp')
    const path = normalize(request.url ?? '/')
    if (path === '/') {
      response.setHeader('content-type', 'text/html')
      response.end(PAGE)
      return
    }
    const file = path === '/model.gguf' ? model : join(folder, path)
    const size = await stat(file).then(
      (entry) => entry.size,
      () => undefined,
    )
    if (size === undefined) {
      response.writeHead(404).end()
      return
    }
    const type = TYPES[file.split('.').at(-1) ?? ''] ?? 'application/octet-stream'
    response.writeHead(200, { 'content-type': type, 'content-length': size })
    createReadStream(file).pipe(response)
  }
  const server = createServer((request, response) => void answer(request, response))
  return new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(server)))
}

if (import.meta.main) {
  const job = JSON.parse(process.argv[3] ?? '{}') as LocalJob
  process.stdout.write(`${JSON.stringify(await measure(process.argv[2] ?? '', job))}\n`)
}
