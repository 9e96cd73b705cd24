import { Command } from 'commander'
import { createWgslEngine } from '../../../src/engine/wgsl-engine.ts'
import { ChoraleError } from '../../../src/errors.ts'
import { describeAdapter } from '../../../src/gpu/device.ts'
import { tensor } from '../../../src/tensor/tensor.ts'
import { createNodePlatform, stderrLogger } from '../../platform.ts'
import { median, positiveFlag, roundTo } from './flags.ts'
import { countingGpu, peakFlops, readBandwidth } from './gpu-probe.ts'
import {
  type BlockFormat,
  type BlockShape,
  blockWeights,
  LLAMA_3_8B,
  SHRUNKEN,
  syntheticBlock,
} from './synthetic-block.ts'

/** One weight format's speed on one block. */
interface GpuMeasure {
  readonly model: string
  readonly engine: 'wgsl'
  readonly format: BlockFormat
  readonly decodeMs: number
  /** Bytes of weights read a second, and their share of what a plain kernel reads. */
  readonly decodeGBs: number
  readonly bandwidthShare: number
  readonly prefillTflops: number
  /** Share of the multiply-adds a plain kernel does. */
  readonly peakShare: number
  readonly dispatchesPerBlock: number
  /** From the call of a decode step to its submit. */
  readonly hostUs: number
}

const PREFILL_TOKENS = 512

/** `chorale bench gpu`: how near the kernels come to what the GPU can do. */
export function gpuBenchCommand(): Command {
  return new Command('gpu')
    .description(
      'one block of Llama-3-8B on the GPU: share of its bandwidth and arithmetic, dispatches, host work',
    )
    .option('--rounds <n>', 'steps whose median is taken', '20')
    .option('--json', 'print one JSON document')
    .action(runGpuBench)
}

async function runGpuBench(options: { rounds: string; json?: boolean }): Promise<void> {
  const rounds = positiveFlag(options.rounds, 'rounds')
  const platform = createNodePlatform(stderrLogger('warn'))
  const gpu = await platform.gpu()
  const adapter = gpu === undefined ? undefined : await describeAdapter(gpu)
  if (gpu === undefined || adapter === undefined) {
    throw new ChoraleError(
      'engine',
      'no WebGPU adapter here; install a Vulkan driver (chorale doctor says more)',
    )
  }
  const shape = adapter.software ? SHRUNKEN : LLAMA_3_8B
  const note = adapter.software
    ? `${adapter.name} is software, no GPU: a shrunken block, and figures that say nothing of a GPU`
    : `${adapter.name}: one block of Llama-3-8B`
  process.stderr.write(`${note}\n`)
  const results: GpuMeasure[] = []
  for (const format of ['Q4_0', 'F16'] as const) {
    const counted = countingGpu(gpu)
    const engine = await createWgslEngine({
      gpu: counted.gpu,
      shaders: await platform.shaders(),
      log: platform.log,
      allowSoftware: true,
    })
    try {
      results.push(
        await measure(engine, counted.counts, shape, format, await roofline(gpu, adapter.software), rounds),
      )
    } finally {
      await engine.close()
    }
  }
  const rivals = ['onnxruntime-web', 'llama.cpp'].map((engine) => ({
    engine,
    skipped: adapter.software ? 'no GPU here' : 'their GPU backends are not driven by this command yet',
  }))
  const document = { device: adapter.name, software: adapter.software, note, results, skipped: rivals }
  if (options.json === true) process.stdout.write(`${JSON.stringify(document, undefined, 1)}\n`)
  else for (const result of results) process.stdout.write(`${describe(result)}\n`)
}

interface Roofline {
  readonly bytesPerSecond: number
  readonly flops: number
}

/** On a device of its own, gone before the engine's is measured. */
async function roofline(gpu: GPU, software: boolean): Promise<Roofline> {
  const adapter = await gpu.requestAdapter({ powerPreference: 'high-performance' })
  if (adapter === null) throw new ChoraleError('engine', 'the WebGPU adapter went away')
  const { maxBufferSize, maxStorageBufferBindingSize } = adapter.limits
  const device = await adapter.requestDevice({
    requiredLimits: { maxBufferSize, maxStorageBufferBindingSize },
  })
  try {
    const most = software ? 2 ** 26 : 2 ** 30
    const bytesPerSecond = await readBandwidth(
      device,
      Math.min(most, maxBufferSize, maxStorageBufferBindingSize & ~255),
    )
    return { bytesPerSecond, flops: await peakFlops(device, software ? 4 : 4096) }
  } finally {
    device.destroy()
  }
}

async function measure(
  engine: Awaited<ReturnType<typeof createWgslEngine>>,
  counts: ReturnType<typeof countingGpu>['counts'],
  shape: BlockShape,
  format: BlockFormat,
  limits: Roofline,
  rounds: number,
): Promise<GpuMeasure> {
  const model = syntheticBlock(shape, format)
  const span = await engine.loadSpan(model, { start: 0, end: 1, kvTokens: PREFILL_TOKENS + rounds + 8 })
  try {
    const input = (tokens: number) =>
      tensor(
        tokens,
        shape.hiddenSize,
        new Float32Array(tokens * shape.hiddenSize).map((_, i) => Math.sin(i)),
      )
    const prefill = input(PREFILL_TOKENS)
    const prefillMs: number[] = []
    for (let round = 0; round < 4; round++) {
      const lease = span.lease(PREFILL_TOKENS)
      const started = performance.now()
      await span.step([{ lease, hidden: prefill }])
      if (round > 0) prefillMs.push(performance.now() - started)
      lease.release()
    }
    const lease = span.lease(rounds + 4)
    const one = input(1)
    const decodeMs: number[] = []
    const hostUs: number[] = []
    let dispatches = 0
    for (let round = 0; round < rounds + 3; round++) {
      counts.dispatches = 0
      const started = performance.now()
      await span.step([{ lease, hidden: one }])
      if (round < 3) continue
      decodeMs.push(performance.now() - started)
      hostUs.push((counts.submittedAt - started) * 1000)
      dispatches = counts.dispatches
    }
    lease.release()
    const bytesPerSecond = span.weightBytes / (median(decodeMs) / 1000)
    const flops = (2 * blockWeights(shape) * PREFILL_TOKENS) / (median(prefillMs) / 1000)
    return {
      model: model.name,
      engine: 'wgsl',
      format,
      decodeMs: roundTo(median(decodeMs), 3),
      decodeGBs: roundTo(bytesPerSecond / 1e9, 1),
      bandwidthShare: roundTo(bytesPerSecond / limits.bytesPerSecond, 3),
      prefillTflops: Number((flops / 1e12).toPrecision(3)),
      peakShare: roundTo(flops / limits.flops, 3),
      dispatchesPerBlock: dispatches,
      hostUs: Math.round(median(hostUs)),
    }
  } finally {
    await span.close()
  }
}

function describe(result: GpuMeasure): string {
  const decode = `decode ${result.decodeMs} ms, ${result.decodeGBs} GB/s (${(result.bandwidthShare * 100).toFixed(0)} % of the GPU's)`
  const prefill = `prefill ${result.prefillTflops} TFLOP/s (${(result.peakShare * 100).toFixed(0)} %)`
  return `${result.format}: ${decode}, ${prefill}, ${result.dispatchesPerBlock} dispatches a block, ${result.hostUs} µs of host work`
}
