import { ChoraleError } from '../errors.ts'
import type { GpuDevice } from './device.ts'

/** WebGPU's flag values, spelled out: `GPUBufferUsage` is no global in Node. Source: WebGPU §5.1. */
export const USAGE = {
  mapRead: 0x1,
  copySource: 0x4,
  copyTarget: 0x8,
  uniform: 0x40,
  storage: 0x80,
} as const

const MAP_READ = 0x1

/** Bytes one `writeBuffer` hands over: bounds what the driver stages besides the source and the buffer itself. */
export const UPLOAD_CHUNK_BYTES = 16 * 2 ** 20

/** Every buffer of one device, with the bytes they take: a leak shows as a number that grows. */
export interface GpuBuffers {
  readonly allocatedBytes: number
  /**
   * A buffer of zeros. `bytes` is rounded up to a multiple of 16.
   * @throws `capacity` when it exceeds the device's limits or memory.
   */
  create(label: string, bytes: number, usage: number): Promise<GPUBuffer>
  /** Destroys a buffer made here; harmless when it already was. */
  destroy(buffer: GPUBuffer): void
}

/** Makes the allocator of `device`. */
export function createGpuBuffers(device: GpuDevice): GpuBuffers {
  const sizes = new Map<GPUBuffer, number>()
  let allocatedBytes = 0
  const destroy = (buffer: GPUBuffer): void => {
    const size = sizes.get(buffer)
    if (size === undefined) return
    sizes.delete(buffer)
    allocatedBytes -= size
    buffer.destroy()
  }
  return {
    get allocatedBytes() {
      return allocatedBytes
    },
    destroy,
    async create(label, bytes, usage) {
      device.check()
      const size = Math.max(16, Math.ceil(bytes / 16) * 16)
      const limit =
        (usage & USAGE.storage) === 0
          ? device.limits.maxBufferSize
          : Math.min(device.limits.maxBufferSize, device.limits.maxStorageBufferBindingSize)
      if (size > limit) {
        throw new ChoraleError(
          'capacity',
          `${label} needs ${size} bytes in one buffer and this GPU allows ${limit}; use a smaller span or KV cache`,
        )
      }
      // Push, create and pop happen in one turn, so loads that run at the same time don't see each other's errors.
      device.raw.pushErrorScope('out-of-memory')
      const buffer = device.raw.createBuffer({ label, size, usage })
      const failure = device.raw.popErrorScope()
      sizes.set(buffer, size)
      allocatedBytes += size
      const error = await failure.catch((reason: unknown) => {
        destroy(buffer)
        throw device.explain(reason)
      })
      if (error !== null) {
        destroy(buffer)
        throw new ChoraleError('capacity', `no GPU memory for ${label} (${size} bytes): ${error.message}`)
      }
      return buffer
    },
  }
}

/** Buffers of one owner, destroyed together. */
export interface OwnedBuffers extends GpuBuffers {
  destroyAll(): void
}

/** Allocates from `buffers` and remembers what it handed out. */
export function ownBuffers(buffers: GpuBuffers): OwnedBuffers {
  const owned = new Set<GPUBuffer>()
  return {
    get allocatedBytes() {
      return [...owned].reduce((sum, buffer) => sum + buffer.size, 0)
    },
    async create(label, bytes, usage) {
      const buffer = await buffers.create(label, bytes, usage)
      owned.add(buffer)
      return buffer
    },
    destroy(buffer) {
      owned.delete(buffer)
      buffers.destroy(buffer)
    },
    destroyAll() {
      for (const buffer of owned) buffers.destroy(buffer)
      owned.clear()
    },
  }
}

/**
 * Copies `bytes` into `target` from byte `offset` on, in chunks. Both must be multiples of 4.
 * Shared memory is copied first: Dawn in Node crashes on it.
 */
export function upload(device: GpuDevice, target: GPUBuffer, offset: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; at += UPLOAD_CHUNK_BYTES) {
    const chunk = bytes.subarray(at, at + UPLOAD_CHUNK_BYTES)
    device.raw.queue.writeBuffer(target, offset + at, isShared(chunk) ? chunk.slice() : unshared(chunk))
  }
}

/** The bytes behind a typed array, without copying. */
export function bytesOf(values: ArrayBufferView): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
}

/** Waits for a MAP_READ buffer and copies `count` floats out of its head. */
export async function readFloats(
  device: GpuDevice,
  staging: GPUBuffer,
  count: number,
): Promise<Float32Array> {
  try {
    await staging.mapAsync(MAP_READ, 0, count * 4)
    const copy = new Float32Array(staging.getMappedRange(0, count * 4).slice(0))
    staging.unmap()
    return copy
  } catch (error) {
    throw device.explain(error)
  }
}

function isShared(bytes: Uint8Array): boolean {
  return typeof SharedArrayBuffer !== 'undefined' && bytes.buffer instanceof SharedArrayBuffer
}

function unshared(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  return bytes as Uint8Array<ArrayBuffer>
}
