/**
 * One engine on synthetic blocks, in a process of its own, so that a driver that crashes takes nothing with it:
 * `node measure-gpu.ts '{"engine": …, "format": …}'` prints one JSON line.
 */
import type { Engine } from '../../../src/engine/engine.ts'
import { createOnnxGpuEngine } from '../../../src/engine/onnx-gpu-engine.ts'
import { createWgslEngine } from '../../../src/engine/wgsl-engine.ts'
import { describeAdapter } from '../../../src/gpu/device.ts'
import { rows, type Tensor, tensor } from '../../../src/tensor/tensor.ts'
import { createNodePlatform, stderrLogger } from '../../platform.ts'
import { median } from './flags.ts'
import { countingGpu, type GpuCounts } from './gpu-probe.ts'
import { type BlockFormat, type BlockShape, syntheticBlocks } from './synthetic-block.ts'

/** What to measure. */
export interface GpuJob {
  readonly engine: string
  readonly format: BlockFormat
  readonly shape: BlockShape
  readonly blocks: number
  readonly promptTokens: number
  /** Decode steps, and prefills up to 3, whose median is taken. */
  readonly rounds: number
  /** For rivals that read files. */
  readonly path?: string
  /** The adapter is a CPU. */
  readonly software: boolean
}

/** What one engine took. */
export interface GpuTimes {
  /** One token through all blocks. */
  readonly decodeMs: number
  readonly prefillMs: number
  /** Of a decode step; null where the engine doesn't show them. */
  readonly dispatches: number | null
  /** From the call of a decode step to its last submit; null likewise. */
  readonly hostUs: number | null
  /** What the engine computes in, for people. */
  readonly how: string
  /** A few of the outputs, to compare engines by; null where the engine doesn't show them. */
  readonly sample: readonly number[] | null
}

const WARM_UP = 3
const SAMPLES = 64

async function measure(job: GpuJob): Promise<GpuTimes> {
  const platform = createNodePlatform(stderrLogger('error'))
  const gpu = await platform.gpu()
  if (gpu === undefined) throw new Error('no WebGPU here')
  const counted = countingGpu(gpu)
  const engine = await openEngine(job, counted.gpu)
  const { blocks, format, promptTokens, rounds, shape } = job
  const model = syntheticBlocks(shape, format, blocks)
  const kvTokens = promptTokens + rounds + WARM_UP + 1
  const span = await engine.loadSpan(model, { start: 0, end: blocks, kvTokens })
  const noise = Float32Array.from({ length: promptTokens * shape.hiddenSize }, (_, i) => Math.sin(i))
  const prompt = tensor(promptTokens, shape.hiddenSize, noise)
  const prefillMs: number[] = []
  for (let round = 0; round < Math.min(4, rounds + 1); round++) {
    const lease = span.lease(promptTokens)
    const started = performance.now()
    await span.step([{ lease, hidden: prompt }])
    if (round > 0) prefillMs.push(performance.now() - started)
    lease.release()
  }
  const lease = span.lease(rounds + WARM_UP)
  const decodeMs: number[] = []
  const hostUs: number[] = []
  const { counts } = counted
  let sample: Tensor | undefined
  for (let round = 0; round < rounds + WARM_UP; round++) {
    reset(counts)
    const hidden = rows(prompt, round % promptTokens, (round % promptTokens) + 1)
    const started = performance.now()
    const [out] = await span.step([{ lease, hidden }])
    sample ??= out
    if (round < WARM_UP) continue
    decodeMs.push(performance.now() - started)
    hostUs.push((counts.submittedAt - started) * 1000)
  }
  return {
    decodeMs: median(decodeMs),
    prefillMs: median(prefillMs),
    dispatches: counts.dispatches,
    hostUs: median(hostUs),
    how: engine.description,
    sample: Array.from((sample as Tensor).data.subarray(0, SAMPLES)),
  }
}

function reset(counts: GpuCounts): void {
  counts.dispatches = 0
  counts.submits = 0
}

async function openEngine(job: GpuJob, gpu: GPU): Promise<Engine> {
  const platform = createNodePlatform(stderrLogger('error'))
  const { facts, log } = platform
  if (job.engine === 'wgsl') {
    const shaders = await platform.shaders()
    return await createWgslEngine({ gpu, shaders, log, allowSoftware: true, ...(facts && { facts }) })
  }
  // As its users run it: halves where the adapter has them, activations of 4-bit products in 8 bits.
  const half = (await describeAdapter(gpu))?.features.includes('shader-f16') === true
  return await createOnnxGpuEngine({
    gpu,
    log,
    allowSoftware: true,
    precision: half ? 'f16' : 'f32',
    roundActivations: job.format === 'Q4_0',
  })
}

const times = await measure(JSON.parse(process.argv[2] ?? '{}') as GpuJob)
process.stdout.write(`${JSON.stringify(times)}\n`, () => {
  // Dawn's pending work may keep the event loop turning; nothing is left to do.
  process.exit(0)
})
