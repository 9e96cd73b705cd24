import { ChoraleError, errorCode, errorMessage } from '../errors.ts'
import type { Platform } from '../platform.ts'
import type { Engine, EngineName } from './engine.ts'

export const ENGINE_NAMES: readonly EngineName[] = ['reference', 'onnx', 'wgsl', 'wasm']

/** What an `--engine` flag takes, for help texts. */
export const ENGINE_CHOICES = `auto, ${ENGINE_NAMES.join(', ')}`

export interface EngineChoice {
  readonly engine: Engine
  /** One sentence for people: why this engine. */
  readonly why: string
}

export interface EngineWish {
  /** Default `auto`. */
  name?: EngineName | 'auto'
  /** CPU threads for engines that compute on the CPU. */
  threads?: number
  /** Lets `wgsl` run on a software adapter: for tests and parity, never for work. Implied when wgsl is asked for by name. */
  allowSoftware?: boolean
  /**
   * Where `onnx` computes: `webgpu` needs an adapter and gives up that numbers don't depend on how tokens were cut
   * into steps (`createOnnxGpuEngine`), so it is never chosen by itself. Default `wasm`.
   */
  onnxProvider?: 'wasm' | 'webgpu'
  /** Bits to which `wasm` rounds activations before they meet a quantised weight; see `WasmEngineOptions`. Default 15. */
  activationBits?: 8 | 15
  /** How `wgsl` keeps keys and values: f16 halves the cache at an error up to 5e-3. Default f32. */
  kv?: 'f32' | 'f16'
}

/**
 * Makes the engine asked for, or the best one here: WebGPU on a real adapter, else our own WASM kernels, else (where
 * they are not shipped or do not start) onnxruntime's. A software adapter is slower than WASM by an order of
 * magnitude, so it is never chosen by itself.
 * @throws `engine` when an engine asked for by name can't run here.
 */
export async function createEngine(platform: Platform, wish: EngineWish = {}): Promise<EngineChoice> {
  const name = wish.name ?? 'auto'
  if (name !== 'auto') return { engine: await makeEngine(platform, name, wish), why: 'asked for by name' }
  const gpu = await describeGpu(platform)
  if (gpu.usable) {
    try {
      return { engine: await makeEngine(platform, 'wgsl', wish), why: `WebGPU adapter ${gpu.name}` }
    } catch (error) {
      return await cpuEngine(platform, wish, `the WebGPU adapter ${gpu.name} failed (${errorMessage(error)})`)
    }
  }
  return await cpuEngine(platform, wish, gpu.why)
}

async function cpuEngine(platform: Platform, wish: EngineWish, noGpu: string): Promise<EngineChoice> {
  if (platform.wasmKernels === undefined) {
    return { engine: await makeEngine(platform, 'onnx', wish), why: `${noGpu}, so WASM on the CPU` }
  }
  try {
    return { engine: await makeEngine(platform, 'wasm', wish), why: `${noGpu}, so WASM on the CPU` }
  } catch (error) {
    if (errorCode(error) !== 'engine') throw error
    const why = `${noGpu} and own kernels do not start (${errorMessage(error)}), so onnxruntime's WASM`
    return { engine: await makeEngine(platform, 'onnx', wish), why }
  }
}

/** Reads an `--engine` value. @throws `bad_config`. */
export function parseEngineName(value: string): EngineName | 'auto' {
  if (value === 'auto' || ENGINE_NAMES.some((name) => name === value)) return value as EngineName | 'auto'
  throw new ChoraleError('bad_config', `unknown engine ${JSON.stringify(value)}; use ${ENGINE_CHOICES}`, {
    field: 'engine',
  })
}

/** Reads a `--kv` value. @throws `bad_config`. */
export function parseKvFormat(value: string): 'f32' | 'f16' {
  if (value === 'f32' || value === 'f16') return value
  throw new ChoraleError('bad_config', `unknown KV cache format ${JSON.stringify(value)}; use f32 or f16`, {
    field: 'kv',
  })
}

/** Whether this machine has a GPU worth using, in words. */
export async function describeGpu(
  platform: Platform,
): Promise<{ usable: boolean; name: string; why: string }> {
  if (!(await platform.mayHaveGpu())) return { usable: false, name: '', why: 'no GPU' }
  const { describeAdapter } = await import('../gpu/device.ts')
  let gpu: GPU | undefined
  try {
    gpu = await platform.gpu()
  } catch (error) {
    return { usable: false, name: '', why: `WebGPU does not start (${errorMessage(error)})` }
  }
  const adapter = gpu === undefined ? undefined : await describeAdapter(gpu)
  if (adapter === undefined) return { usable: false, name: '', why: 'no GPU adapter' }
  if (adapter.software)
    return { usable: false, name: adapter.name, why: `the only GPU adapter is software (${adapter.name})` }
  return { usable: true, name: adapter.name, why: `GPU adapter ${adapter.name}` }
}

async function makeEngine(platform: Platform, name: EngineName, wish: EngineWish): Promise<Engine> {
  switch (name) {
    case 'reference': {
      const { createReferenceEngine } = await import('./reference/reference-engine.ts')
      return createReferenceEngine()
    }
    case 'onnx': {
      if (wish.onnxProvider === 'webgpu') {
        const gpu = await platform.gpu()
        if (gpu === undefined) {
          throw new ChoraleError(
            'engine',
            "onnxruntime's WebGPU provider needs WebGPU and this machine has none",
          )
        }
        const { createOnnxGpuEngine } = await import('./onnx-gpu-engine.ts')
        return await createOnnxGpuEngine({
          gpu,
          log: platform.log,
          ...(wish.allowSoftware === undefined ? {} : { allowSoftware: wish.allowSoftware }),
        })
      }
      const { createOnnxEngine } = await import('./onnx-engine.ts')
      return await createOnnxEngine({
        log: platform.log,
        cores: platform.cores,
        ...(wish.threads === undefined ? {} : { threads: wish.threads }),
      })
    }
    case 'wgsl': {
      const gpu = await platform.gpu()
      if (gpu === undefined) {
        throw new ChoraleError(
          'engine',
          'engine wgsl needs WebGPU and this machine has none; use --engine onnx or auto',
        )
      }
      const { createWgslEngine } = await import('./wgsl-engine.ts')
      return await createWgslEngine({
        gpu,
        shaders: await platform.shaders(),
        log: platform.log,
        ...(platform.facts === undefined ? {} : { facts: platform.facts }),
        allowSoftware: wish.allowSoftware ?? wish.name === 'wgsl',
        ...(wish.kv === undefined ? {} : { kv: wish.kv }),
      })
    }
    case 'wasm': {
      if (platform.wasmKernels === undefined) {
        throw new ChoraleError(
          'engine',
          'engine wasm: its kernels are not shipped here; use --engine onnx or auto',
        )
      }
      const { createWasmEngine } = await import('./wasm-engine.ts')
      return await createWasmEngine({
        kernels: platform.wasmKernels,
        ...(platform.compileWideWasm === undefined ? {} : { compileWide: platform.compileWideWasm }),
        log: platform.log,
        cores: platform.cores,
        ...(wish.activationBits === undefined ? {} : { activationBits: wish.activationBits }),
        ...(platform.startWasmThread === undefined ? {} : { startThread: platform.startWasmThread }),
        ...(wish.threads === undefined ? {} : { threads: wish.threads }),
      })
    }
  }
}
