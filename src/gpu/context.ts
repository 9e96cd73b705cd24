import type { Logger } from '../log.ts'
import { bytesOf, createGpuBuffers, type GpuBuffers, upload, USAGE } from './buffers.ts'
import { type GpuDevice, openDevice, type OpenDeviceOptions } from './device.ts'
import { createPipelines, type Kernel, type Pipelines } from './pipelines.ts'
import type { ShaderSources } from './shader-set.ts'

/** One device with its buffers, pipelines and constant parameters: what every op is built from. */
export interface GpuContext {
  readonly device: GpuDevice
  readonly buffers: GpuBuffers
  readonly pipelines: Pipelines
  readonly log: Logger
  /** A uniform buffer with these words, shared by everybody who asks for the same ones and never changed. */
  uniform(words: Uint32Array): Promise<GPUBuffer>
  close(): void
}

/** A recorded piece of work: `encode` may be called any number of times, in any pass of its device. */
export interface GpuOp {
  /**
   * Adds the op's dispatches for the first `rows` rows of its buffers; `splits`: of the keys of the longest row
   * (`splitCount`), for attention.
   */
  encode(pass: GPUComputePassEncoder, rows: number, splits: number): void
}

/** A buffer, or its bytes from `offset` on. */
export type Binding = GPUBuffer | GPUBufferBinding

/** Opens a device. @throws `engine`. */
export async function openContext(
  options: OpenDeviceOptions & { shaders: ShaderSources },
): Promise<GpuContext> {
  const device = await openDevice(options)
  const buffers = createGpuBuffers(device)
  const uniforms = new Map<string, Promise<GPUBuffer>>()
  return {
    device,
    buffers,
    pipelines: createPipelines(device, options.shaders),
    log: options.log,
    uniform(words) {
      const key = words.join(' ')
      let buffer = uniforms.get(key)
      if (buffer === undefined) {
        buffer = createUniform(device, buffers, words)
        uniforms.set(key, buffer)
      }
      return buffer
    },
    close: () => device.close(),
  }
}

async function createUniform(device: GpuDevice, buffers: GpuBuffers, words: Uint32Array): Promise<GPUBuffer> {
  const buffer = await buffers.create('params', words.byteLength, USAGE.uniform | USAGE.copyTarget)
  upload(device, buffer, 0, bytesOf(words))
  return buffer
}

/** Binds buffers in the order of the kernel's binding numbers. */
export function bind(context: GpuContext, kernel: Kernel, bindings: readonly Binding[]): GPUBindGroup {
  return context.device.raw.createBindGroup({
    layout: kernel.layout,
    entries: bindings.map((resource, binding) => ({
      binding,
      resource: 'buffer' in resource ? resource : { buffer: resource },
    })),
  })
}

/** The bits of a float32 as a word of a params struct. */
export function floatBits(value: number): number {
  return new Uint32Array(new Float32Array([value]).buffer)[0] as number
}

/**
 * `value` rounded up to a multiple of 8: kernels read rows as vec4s and half-precision weights eight at a time; the
 * padding is zero.
 */
export function padded(value: number): number {
  return Math.ceil(value / 8) * 8
}

/** How many rows of `widest` values a storage binding holds: at most `most`, at least 1. */
export function rowsThatFit(device: GpuDevice, most: number, widest: number): number {
  const limit = Math.min(device.limits.maxStorageBufferBindingSize, device.limits.maxBufferSize)
  return Math.max(1, Math.min(most, Math.floor(limit / (padded(widest) * 4))))
}

/** Rows of `from` values as rows of `to` values: the padding cut off, or added as zeros. */
export function strided(values: Float32Array, from: number, to: number): Float32Array {
  if (from === to) return values
  const count = values.length / from
  const out = new Float32Array(count * to)
  for (let row = 0; row < count; row++) {
    out.set(values.subarray(row * from, row * from + Math.min(from, to)), row * to)
  }
  return out
}
