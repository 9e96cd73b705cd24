import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { openGpu } from '../../node/gpu.ts'
import { errorMessage } from '../../src/errors.ts'
import { bytesOf, readFloats, upload, USAGE } from '../../src/gpu/buffers.ts'
import { type GpuContext, type GpuOp, openContext, padded, strided } from '../../src/gpu/context.ts'
import { silentLogger } from '../../src/log.ts'

/** A context on whatever adapter there is, software included, or undefined after printing why the tests are skipped. */
export async function openTestContext(maxBindingBytes?: number): Promise<GpuContext | undefined> {
  try {
    const gpu = await openGpu()
    if (gpu === undefined) throw new Error('no WebGPU here')
    const shaders = await testShaders()
    const limit = maxBindingBytes === undefined ? {} : { maxBindingBytes }
    return await openContext({ gpu, shaders, log: silentLogger, allowSoftware: true, ...limit })
  } catch (error) {
    console.log(
      `skipped, no WebGPU adapter: ${errorMessage(error)} (node test/setup/install-system.ts installs one)`,
    )
    return undefined
  }
}

/** The repository's kernels. */
export async function testShaders(): Promise<ReadonlyMap<string, string>> {
  const root = join(import.meta.dirname, '../../shaders')
  const names = (await readdir(root, { recursive: true })).filter((name) => name.endsWith('.wgsl'))
  const read = async (name: string) =>
    [name.replaceAll('\\', '/'), await readFile(join(root, name), 'utf8')] as const
  return new Map(await Promise.all(names.map(read)))
}

/** Rows of `width` floats, padded with zeros as the kernels expect. */
export function padFloats(values: Float32Array, width: number): Float32Array {
  return strided(values, width, padded(width))
}

/** What `padFloats` was given. */
export function dropPadding(values: Float32Array, rows: number, width: number): Float32Array {
  return strided(values.subarray(0, rows * padded(width)), padded(width), width)
}

/** A buffer of `count` zeros to write into and read back. */
export async function zeros(context: GpuContext, count: number): Promise<GPUBuffer> {
  const usage = USAGE.storage | USAGE.copySource | USAGE.copyTarget
  return await context.buffers.create('test', count * 4, usage)
}

/** Seeded uniform values in (-1, 1): mulberry32. */
export function random(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return (((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * 2 - 1
  }
}

/** `count` seeded values as float32. */
export function randomFloats(next: () => number, count: number): Float32Array {
  return Float32Array.from({ length: count }, next)
}

/** A buffer with these values in it. */
export async function bufferOf(context: GpuContext, values: ArrayBufferView): Promise<GPUBuffer> {
  const usage = USAGE.storage | USAGE.uniform | USAGE.copyTarget | USAGE.copySource
  const buffer = await context.buffers.create('test', values.byteLength, usage)
  const bytes = bytesOf(values)
  const whole = new Uint8Array(Math.ceil(bytes.length / 4) * 4)
  whole.set(bytes)
  upload(context.device, buffer, 0, whole)
  return buffer
}

/** Runs ops in one pass and returns the first `count` floats of `output`. */
export async function runOps(
  context: GpuContext,
  ops: readonly GpuOp[],
  rows: number,
  output: GPUBuffer,
  count: number,
  splits = 1,
): Promise<Float32Array> {
  const { raw } = context.device
  const staging = await context.buffers.create('test', count * 4, USAGE.mapRead | USAGE.copyTarget)
  const encoder = raw.createCommandEncoder()
  const pass = encoder.beginComputePass()
  for (const op of ops) op.encode(pass, rows, splits)
  pass.end()
  encoder.copyBufferToBuffer(output, 0, staging, 0, count * 4)
  raw.queue.submit([encoder.finish()])
  const values = await readFloats(context.device, staging, count)
  context.device.check()
  context.buffers.destroy(staging)
  return values
}

/** The bits of floats: what "the same numbers" means. */
export function bits(values: Float32Array): Uint32Array {
  return new Uint32Array(values.slice().buffer)
}
