/**
 * The rival of `bench local`: native llama.cpp through node-llama-cpp, on the same GGUF file and threads.
 *
 * Not a dependency of Chorale: it is installed with npm into the cache the first time it is asked for. Run as
 * `node llama-cpp.ts FOLDER '{"model": …, "threads": …}'` it prints one JSON line.
 */
import { basename, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { median, roundTo } from './flags.ts'
import type { LocalJob, LocalMeasure } from './measure-local.ts'
import { installRival, type Installed } from './rival-package.ts'

/** Of node-llama-cpp and its binaries. */
export const LLAMA_CPP_VERSION = '3.22.1'

/** Prebuilt binaries exist for these. */
const PLATFORMS: Readonly<Record<string, string>> = {
  'linux x64': '@node-llama-cpp/linux-x64',
  'linux arm64': '@node-llama-cpp/linux-arm64',
}

/** Installs node-llama-cpp with the binary of this platform. */
export async function installLlamaCpp(): Promise<Installed> {
  const binary = PLATFORMS[`${process.platform} ${process.arch}`]
  if (binary === undefined) {
    return { reason: `llama.cpp has no prebuilt binary for ${process.platform} ${process.arch}` }
  }
  return await installRival(`node-llama-cpp-${LLAMA_CPP_VERSION}`, [
    `node-llama-cpp@${LLAMA_CPP_VERSION}`,
    `${binary}@${LLAMA_CPP_VERSION}`,
  ])
}

/** The part of node-llama-cpp's interface used here. */
export interface LlamaModule {
  readonly getLlama: (options: object) => Promise<{
    getGpuDeviceNames(): Promise<string[]>
    loadModel(options: { modelPath: string; gpuLayers?: number }): Promise<{
      readonly gpuLayers: number
      createContext(options: object): Promise<{
        getSequence(): {
          evaluate(tokens: number[], options: object): AsyncIterable<number>
          clearHistory(): Promise<void>
        }
      }>
    }>
    dispose(): Promise<void>
  }>
}

async function measure(folder: string, job: LocalJob): Promise<LocalMeasure> {
  const entry = pathToFileURL(join(folder, 'node_modules/node-llama-cpp/dist/index.js')).href
  const { getLlama } = (await import(entry)) as LlamaModule
  const started = performance.now()
  const llama = await getLlama({
    gpu: false,
    build: 'never',
    skipDownload: true,
    logLevel: 'error',
    maxThreads: job.threads,
  })
  const model = await llama.loadModel({ modelPath: job.model })
  const contextSize = job.promptTokens + job.decodeTokens + 8
  const context = await model.createContext({
    contextSize,
    threads: job.threads,
    batchSize: job.promptTokens,
  })
  const loadMs = performance.now() - started
  const sequence = context.getSequence()
  const prompt = Array.from({ length: job.promptTokens }, (_, index) => 1000 + index)
  const prefills: number[] = []
  const decodes: number[] = []
  for (let round = 0; round <= job.rounds; round++) {
    await sequence.clearHistory()
    const tokens = sequence.evaluate(prompt, { temperature: 0, yieldEogToken: true })[Symbol.asyncIterator]()
    let mark = performance.now()
    await tokens.next()
    const prefill = job.promptTokens / ((performance.now() - mark) / 1000)
    mark = performance.now()
    for (let step = 0; step < job.decodeTokens; step++) await tokens.next()
    if (round === 0) continue
    prefills.push(prefill)
    decodes.push(job.decodeTokens / ((performance.now() - mark) / 1000))
  }
  const rssMiB = Math.round(process.memoryUsage().rss / 2 ** 20)
  await llama.dispose()
  return {
    model: basename(job.model),
    engine: 'llama.cpp',
    threads: job.threads,
    prefillTokS: roundTo(median(prefills), 1),
    decodeTokS: roundTo(median(decodes), 1),
    loadMs: Math.round(loadMs),
    rssMiB,
  }
}

if (import.meta.main) {
  process.stdout.write(
    `${JSON.stringify(await measure(process.argv[2] ?? '', JSON.parse(process.argv[3] ?? '{}') as LocalJob))}\n`,
  )
}
