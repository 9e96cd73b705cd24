import { ChoraleError } from '../errors.ts'
import type { Logger } from '../log.ts'

/** What people and the engine choice need to know of an adapter. */
export interface AdapterDescription {
  /** Vendor, architecture and description in one line. */
  readonly name: string
  /** The adapter is a CPU in disguise: right for tests, never for work. */
  readonly software: boolean
  readonly limits: GpuLimits
  readonly features: readonly string[]
}

/** The limits that shape buffers and dispatches. */
export interface GpuLimits {
  readonly maxBufferSize: number
  readonly maxStorageBufferBindingSize: number
  readonly maxStorageBuffersPerShaderStage: number
  readonly maxComputeWorkgroupStorageSize: number
  readonly maxComputeInvocationsPerWorkgroup: number
  readonly maxComputeWorkgroupsPerDimension: number
}

/** An open device. Errors that no call reports are kept here until `check` is called. */
export interface GpuDevice {
  readonly raw: GPUDevice
  readonly adapter: AdapterDescription
  readonly limits: GpuLimits
  /** @throws `engine` when the device is lost or a command was invalid since the last call. */
  check(): void
  /** Whatever a GPU call rejected with, as an `engine` error that names a lost device as such. */
  explain(error: unknown): ChoraleError
  close(): void
}

export interface OpenDeviceOptions {
  gpu: GPU
  log: Logger
  /** Accept llvmpipe and SwiftShader. */
  allowSoftware?: boolean
  /** Lowers `maxStorageBufferBindingSize`, in bytes: lets a test split small tensors. */
  maxBindingBytes?: number
  /** Features to ask for where the adapter has them; own kernels need none. */
  optionalFeatures?: readonly GPUFeatureName[]
  /** Raises every limit to the adapter's own, for libraries whose kernels are not known here. */
  everyLimit?: boolean
}

const LIMIT_NAMES = [
  'maxBufferSize',
  'maxStorageBufferBindingSize',
  'maxStorageBuffersPerShaderStage',
  'maxComputeWorkgroupStorageSize',
  'maxComputeInvocationsPerWorkgroup',
  'maxComputeWorkgroupsPerDimension',
] as const satisfies readonly (keyof GpuLimits)[]

const FURTHER_LIMITS = [
  'maxComputeWorkgroupSizeX',
  'maxComputeWorkgroupSizeY',
  'maxComputeWorkgroupSizeZ',
] as const satisfies readonly (keyof GPUSupportedLimits)[]

type AdapterInfo = Pick<GPUAdapterInfo, 'vendor' | 'architecture' | 'description'> & {
  readonly device?: string
  readonly isFallbackAdapter?: boolean
}

/**
 * Whether an adapter computes on the CPU. Browsers may hide the description, so every field is looked at.
 * Not detected: a software driver that names itself after hardware.
 */
export function isSoftwareAdapter(info: AdapterInfo): boolean {
  if (info.isFallbackAdapter === true) return true
  const text = [info.vendor, info.architecture, info.description, info.device ?? ''].join(' ').toLowerCase()
  return /llvmpipe|lavapipe|swiftshader|software|basic render|\bwarp\b/.test(text)
}

/** The default high-performance adapter in words, or undefined when there is none. */
export async function describeAdapter(gpu: GPU): Promise<AdapterDescription | undefined> {
  const adapter = await requestAdapter(gpu)
  return adapter === undefined ? undefined : describe(adapter)
}

/**
 * Opens a device with the adapter's own maxima of the limits that matter and no optional features: every kernel
 * is core WGSL. @throws `engine` without an adapter, with a software adapter that was not allowed, or when the
 * driver refuses.
 */
export async function openDevice(options: OpenDeviceOptions): Promise<GpuDevice> {
  const adapter = await requestAdapter(options.gpu)
  if (adapter === undefined) {
    throw new ChoraleError(
      'engine',
      'WebGPU finds no adapter here; install a GPU driver or use --engine onnx',
    )
  }
  const description = describe(adapter)
  if (description.software && options.allowSoftware !== true) {
    throw new ChoraleError(
      'engine',
      `the only WebGPU adapter is software (${description.name}), slower than the onnx engine; use --engine onnx`,
    )
  }
  const requiredLimits: Record<string, number> = { ...description.limits }
  if (options.everyLimit === true) {
    for (const name of FURTHER_LIMITS) requiredLimits[name] = adapter.limits[name]
  }
  const requiredFeatures = (options.optionalFeatures ?? []).filter((name) => adapter.features.has(name))
  let raw: GPUDevice
  try {
    raw = await adapter.requestDevice({ label: 'chorale', requiredLimits, requiredFeatures })
  } catch (error) {
    throw new ChoraleError(
      'engine',
      `the GPU driver of ${description.name} refuses a device: ${text(error)}`,
      {
        cause: error,
      },
    )
  }
  const limits: GpuLimits = {
    ...description.limits,
    maxStorageBufferBindingSize: Math.min(
      description.limits.maxStorageBufferBindingSize,
      options.maxBindingBytes ?? Infinity,
    ),
  }
  return watch(raw, description, limits, options.log)
}

function watch(raw: GPUDevice, adapter: AdapterDescription, limits: GpuLimits, log: Logger): GpuDevice {
  let closed = false
  let lost: string | undefined
  let invalid: string | undefined
  void (async () => {
    const info = await raw.lost
    if (closed) return
    lost = `${info.reason}: ${info.message}`
    log.error('GPU device lost', { adapter: adapter.name, why: lost })
  })()
  raw.addEventListener('uncapturederror', (event) => {
    const { message } = event.error
    // Logged here and thrown by `check`; the implementation need not print it too.
    event.preventDefault()
    invalid ??= message
    log.error('GPU command failed', { message })
  })
  const lostError = () =>
    new ChoraleError('engine', `the GPU device is lost (${lost}); restart the server to get a new one`)
  return {
    raw,
    adapter,
    limits,
    check() {
      if (closed) throw new ChoraleError('engine', 'the GPU device was closed')
      if (lost !== undefined) throw lostError()
      if (invalid === undefined) return
      const message = invalid
      invalid = undefined
      throw new ChoraleError('engine', `a GPU command failed: ${message}`)
    },
    explain(error) {
      if (error instanceof ChoraleError) return error
      if (lost !== undefined) return lostError()
      if (closed) return new ChoraleError('engine', 'the GPU device was closed', { cause: error })
      return new ChoraleError('engine', `a GPU command failed: ${text(error)}`, { cause: error })
    },
    close() {
      closed = true
      raw.destroy()
    },
  }
}

async function requestAdapter(gpu: GPU): Promise<GPUAdapter | undefined> {
  return (await gpu.requestAdapter({ powerPreference: 'high-performance' })) ?? undefined
}

function describe(adapter: GPUAdapter): AdapterDescription {
  const info = adapter.info as AdapterInfo
  const parts = [info.vendor, info.architecture, info.description].map((part) => part.trim())
  // Some implementations give the vendor as a bare PCI number: noise for people.
  const words = parts.filter((part) => part !== '' && !/^(0x)?[0-9a-f]+$/i.test(part))
  return {
    name: words.length === 0 ? (info.device ?? '') || 'unnamed adapter' : words.join(' '),
    software: isSoftwareAdapter(info),
    limits: Object.fromEntries(
      LIMIT_NAMES.map((name) => [name, adapter.limits[name]]),
    ) as unknown as GpuLimits,
    features: [...adapter.features].toSorted(),
  }
}

function text(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
