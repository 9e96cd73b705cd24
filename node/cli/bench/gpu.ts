import { execFile } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { Command } from 'commander'
import { ChoraleError } from '../../../src/errors.ts'
import { describeAdapter } from '../../../src/gpu/device.ts'
import { createNodePlatform, stderrLogger } from '../../platform.ts'
import { positiveFlag, roundTo } from './flags.ts'
import { peakFlops, readBandwidth } from './gpu-probe.ts'
import { installLlamaCppVulkan } from './llama-cpp-gpu.ts'
import type { GpuJob, GpuTimes } from './measure-gpu.ts'
import {
  type BlockFormat,
  blockWeights,
  LLAMA_3_8B,
  matrixBytes,
  SHRUNKEN,
  syntheticBlocks,
} from './synthetic-block.ts'
import { writeSyntheticGguf } from './synthetic-gguf.ts'

/** One engine's speed on blocks of one weight format. */
export interface GpuMeasure {
  readonly model: string
  readonly engine: string
  readonly format: BlockFormat
  /** What the engine computes in, for people. */
  readonly how: string
  /** One token through all blocks. */
  readonly decodeMs: number
  /** Bytes of weights, as the file has them, a second; and their share of what a plain kernel reads. */
  readonly decodeGBs: number
  readonly bandwidthShare: number
  readonly prefillTflops: number
  /** Share of the float32 multiply-adds a plain kernel does; engines that compute in halves may pass 1. */
  readonly peakShare: number
  /** Null where the engine doesn't show it. */
  readonly dispatchesPerBlock: number | null
  /** From the call of a decode step to its last submit; null likewise. */
  readonly hostUs: number | null
  /** Largest difference from our engine's first output ÷ the largest value; null where the engine shows none. */
  readonly difference: number | null
}

interface Rival {
  readonly engine: string
  readonly reason: string
}

const OWN = 'wgsl'
const ORT = 'onnxruntime-web'
const LLAMA_CPP = 'llama.cpp'
const FORMATS: readonly BlockFormat[] = ['Q4_0', 'F16']
const MEASURE_LIMIT_MS = 600_000

interface GpuBenchOptions {
  rounds: string
  blocks?: string
  engine: string
  json?: boolean
}

/** `chorale bench gpu`: how near the kernels come to what the GPU can do, next to onnxruntime-web and llama.cpp. */
export function gpuBenchCommand(): Command {
  return new Command('gpu')
    .description(
      "blocks of Llama-3-8B on the GPU: share of its bandwidth and arithmetic, next to onnxruntime-web's WebGPU and llama.cpp's Vulkan",
    )
    .option('--rounds <n>', 'steps whose median is taken', '20')
    .option('--blocks <n>', 'blocks of a step (default: 4 on a GPU, 1 in software)')
    .option('--engine <names>', 'engines, separated by commas', [OWN, ORT, LLAMA_CPP].join())
    .option('--json', 'print one JSON document')
    .action(runGpuBench)
}

async function runGpuBench(options: GpuBenchOptions): Promise<void> {
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
  const { name, software } = adapter
  const shape = software ? SHRUNKEN : LLAMA_3_8B
  const blocks = options.blocks === undefined ? (software ? 1 : 4) : positiveFlag(options.blocks, 'blocks')
  const note = software
    ? `${name} is software, no GPU: shrunken blocks, and figures that say nothing of a GPU`
    : `${name}: ${blocks} of Llama-3-8B's blocks`
  process.stderr.write(`${note}\n`)
  const limits = await roofline(gpu, software)
  const engines = options.engine.split(',').map((part) => part.trim())
  const job = { shape, blocks, rounds, promptTokens: software ? 64 : 512, software }
  const results: GpuMeasure[] = []
  const rivals: Rival[] = []
  for (const format of FORMATS) {
    let own: GpuTimes | undefined
    for (const engine of engines) {
      try {
        const times = await timesOf({ ...job, engine, format })
        if (engine === OWN) own = times
        results.push(measureOf({ ...job, engine, format }, times, limits, own))
        process.stderr.write(`${describe(results.at(-1))}\n`)
      } catch (error) {
        if (engine === OWN) throw error
        const reason = `${format}: ${reasonOf(error)}`
        rivals.push({ engine, reason })
        process.stderr.write(`skip ${engine} ${reason}\n`)
      }
    }
  }
  const document = {
    device: name,
    software,
    shrunken: shape === SHRUNKEN,
    note,
    roofline: {
      readGBs: roundTo(limits.bytesPerSecond / 1e9, 1),
      tflops: Number((limits.flops / 1e12).toPrecision(3)),
    },
    results,
    rivals,
  }
  if (options.json === true) process.stdout.write(`${JSON.stringify(document, undefined, 1)}\n`)
  else for (const result of results) process.stdout.write(`${describe(result)}\n`)
}

/** Runs one measurement as a script of its own. @throws what it failed with. */
async function timesOf(job: GpuJob): Promise<GpuTimes> {
  const script = (file: string) => join(import.meta.dirname, file)
  if (job.engine !== LLAMA_CPP) {
    if (job.engine !== OWN && job.engine !== ORT) throw new Error(`unknown engine ${job.engine}`)
    return await runScript([script('measure-gpu.ts'), JSON.stringify(job)])
  }
  const installed = await installLlamaCppVulkan()
  if ('reason' in installed) throw new Error(installed.reason)
  const folder = await mkdtemp(join(tmpdir(), 'chorale-bench-'))
  try {
    const path = join(folder, 'blocks.gguf')
    await writeSyntheticGguf(syntheticBlocks(job.shape, job.format, job.blocks), path)
    return await runScript([script('llama-cpp-gpu.ts'), installed.folder, JSON.stringify({ ...job, path })])
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

async function runScript(args: readonly string[]): Promise<GpuTimes> {
  const limits = { timeout: MEASURE_LIMIT_MS, maxBuffer: 2 ** 24, killSignal: 'SIGKILL' as const }
  const { stdout } = await promisify(execFile)(process.execPath, args, limits)
  return JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as GpuTimes
}

/** The line that says why, of all that a failed script wrote. */
function reasonOf(error: unknown): string {
  const { killed, message, signal, stderr } = error as {
    killed?: boolean
    message: string
    signal?: string | null
    stderr?: string
  }
  if (killed === true) return `took longer than ${MEASURE_LIMIT_MS / 1000} s`
  if (typeof signal === 'string') return `crashed (${signal})`
  const lines = (stderr ?? message).split('\n').map((line) => line.trim())
  return (
    lines.find((line) => /^(\w*Error|error)\b/i.test(line)) ?? lines.find((line) => line !== '') ?? message
  )
}

interface Roofline {
  readonly bytesPerSecond: number
  readonly flops: number
}

/** On a device of its own, gone before an engine's is measured. */
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

function measureOf(job: GpuJob, times: GpuTimes, limits: Roofline, own: GpuTimes | undefined): GpuMeasure {
  const { blocks, engine, format, promptTokens, shape } = job
  const bytesPerSecond = matrixBytes(shape, format, blocks) / (times.decodeMs / 1000)
  const flops = (2 * blockWeights(shape) * blocks * promptTokens) / (times.prefillMs / 1000)
  return {
    model: `${blocks} block${blocks === 1 ? '' : 's'}, hidden ${shape.hiddenSize}`,
    engine,
    format,
    how: times.how,
    decodeMs: roundTo(times.decodeMs, 3),
    decodeGBs: Number((bytesPerSecond / 1e9).toPrecision(3)),
    bandwidthShare: roundTo(bytesPerSecond / limits.bytesPerSecond, 3),
    prefillTflops: Number((flops / 1e12).toPrecision(3)),
    peakShare: roundTo(flops / limits.flops, 3),
    dispatchesPerBlock: times.dispatches === null ? null : roundTo(times.dispatches / blocks, 1),
    hostUs: times.hostUs === null ? null : Math.round(times.hostUs),
    difference: differenceOf(times.sample, own?.sample ?? null),
  }
}

function differenceOf(sample: readonly number[] | null, own: readonly number[] | null): number | null {
  if (sample === null || own === null) return null
  const largest = Math.max(...own.map(Math.abs))
  const distances = own.map((value, i) => Math.abs(value - (sample[i] ?? Number.NaN)))
  return Number((Math.max(...distances) / largest).toPrecision(3))
}

function describe(result: GpuMeasure): string {
  const percent = (share: number) => `${(share * 100).toFixed(0)} %`
  const decode = `decode ${result.decodeMs} ms, ${result.decodeGBs} GB/s (${percent(result.bandwidthShare)} of the GPU's)`
  const prefill = `prefill ${result.prefillTflops} TFLOP/s (${percent(result.peakShare)})`
  const host =
    result.dispatchesPerBlock === null
      ? ''
      : `, ${result.dispatchesPerBlock} dispatches a block, ${result.hostUs ?? '?'} µs of host work`
  return `${result.engine} ${result.format}: ${decode}, ${prefill}${host}`
}
