/**
 * The other rival of `bench gpu`: llama.cpp's Vulkan backend through node-llama-cpp, on a GGUF file of the same weights.
 *
 * Not a dependency of Chorale: it is installed with npm into the cache the first time it is asked for. Run as
 * `node llama-cpp-gpu.ts FOLDER '{"path": …}'` it prints one JSON line.
 */
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { median } from './flags.ts'
import { type LlamaModule, LLAMA_CPP_VERSION } from './llama-cpp.ts'
import type { GpuJob, GpuTimes } from './measure-gpu.ts'
import { type Installed, installRival } from './rival-package.ts'

/** Prebuilt Vulkan binaries exist for these. */
const PLATFORMS: Readonly<Record<string, string>> = {
  'linux x64': '@node-llama-cpp/linux-x64-vulkan',
  'win32 x64': '@node-llama-cpp/win-x64-vulkan',
}

/** Installs node-llama-cpp with this platform's Vulkan binary. */
export async function installLlamaCppVulkan(): Promise<Installed> {
  const binary = PLATFORMS[`${process.platform} ${process.arch}`]
  if (binary === undefined) {
    return { reason: `llama.cpp has no prebuilt Vulkan binary for ${process.platform} ${process.arch}` }
  }
  const version = LLAMA_CPP_VERSION
  return await installRival(`node-llama-cpp-vulkan-${version}`, [
    `node-llama-cpp@${version}`,
    `${binary}@${version}`,
  ])
}

async function measure(folder: string, job: GpuJob): Promise<GpuTimes> {
  // llama.cpp leaves Vulkan devices that are CPUs out unless they are asked for by number.
  if (job.software) process.env['GGML_VK_VISIBLE_DEVICES'] ??= '0'
  const entry = pathToFileURL(join(folder, 'node_modules/node-llama-cpp/dist/index.js')).href
  const { getLlama } = (await import(entry)) as LlamaModule
  const llama = await getLlama({ gpu: 'vulkan', build: 'never', skipDownload: true, logLevel: 'error' })
  const [device = 'unnamed'] = await llama.getGpuDeviceNames()
  const layers = job.blocks + 1
  const model = await llama.loadModel({ modelPath: job.path ?? '', gpuLayers: layers })
  const context = await model.createContext({
    contextSize: job.promptTokens + job.rounds + 8,
    batchSize: job.promptTokens,
  })
  const sequence = context.getSequence()
  const prompt = Array.from({ length: job.promptTokens }, (_, index) => 3 + (index % 29))
  const prefillMs: number[] = []
  const decodeMs: number[] = []
  for (let round = 0; round < Math.min(4, job.rounds + 1); round++) {
    await sequence.clearHistory()
    const options = { temperature: 0, yieldEogToken: true }
    const tokens = sequence.evaluate(prompt, options)[Symbol.asyncIterator]()
    let mark = performance.now()
    await tokens.next()
    if (round > 0) prefillMs.push(performance.now() - mark)
    for (let step = 0; step < job.rounds; step++) {
      mark = performance.now()
      await tokens.next()
      if (round > 0) decodeMs.push(performance.now() - mark)
    }
  }
  const used = model.gpuLayers
  await llama.dispose()
  if (used < layers) throw new Error(`only ${used} of ${layers} layers went to ${device}`)
  return {
    decodeMs: median(decodeMs),
    prefillMs: median(prefillMs),
    dispatches: null,
    hostUs: null,
    how: `Vulkan, float16 KV, ${device}`,
    sample: null,
  }
}

if (import.meta.main) {
  const times = await measure(process.argv[2] ?? '', JSON.parse(process.argv[3] ?? '{}') as GpuJob)
  process.stdout.write(`${JSON.stringify(times)}\n`)
}
