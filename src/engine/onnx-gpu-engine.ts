import { ChoraleError, errorMessage } from '../errors.ts'
import { openDevice } from '../gpu/device.ts'
import { type Logger, silentLogger } from '../log.ts'
import type { Model } from '../model/model.ts'
import type { ModelSpec } from '../model/spec.ts'
import { checkSpan } from './check-span.ts'
import { checkHeadSupport, checkSupport, type SupportedSpec } from './check-support.ts'
import type { Engine, LoadSpanOptions } from './engine.ts'
import { loadGpuHead } from './onnx/gpu/gpu-head.ts'
import type { GpuPrecision } from './onnx/gpu/gpu-weights.ts'
import { loadGpuSpan } from './onnx/gpu/gpu-span.ts'
import { openOrtGpu } from './onnx/gpu/ort-gpu.ts'
import { ORT_VERSION } from './onnx/ort-wasm.ts'
import { checkRotation } from './onnx/head-layout.ts'
import { SELF_TEST_SPEC, spanError } from './span-self-test.ts'

export interface OnnxGpuEngineOptions {
  gpu: GPU
  log?: Logger
  /** Accept a software adapter: for tests and comparisons, never for work. */
  allowSoftware?: boolean
  /**
   * What activations, weights that are not quantised, and the KV cache are computed and kept in. Default f32;
   * f16 needs the adapter's `shader-f16` and overflows where residuals pass 65504.
   */
  precision?: 'f32' | 'f16'
  /** Lets 4- and 8-bit products round activations to 8 bits (MatMulNBits' accuracy level 4). */
  roundActivations?: boolean
}

const SUPPORTED: SupportedSpec = {
  norms: ['rms', 'layer'],
  residuals: ['sequential', 'parallel'],
  mlps: ['gated', 'plain'],
  activations: ['silu', 'gelu', 'gelu-tanh'],
  positions: ['rope'],
  windows: true,
  qkNorm: true,
}

/**
 * The onnx engine on a GPU, through onnxruntime-web's WebGPU provider: Q4_0 and Q8_0 weights stay quantised, other
 * formats are kept in `precision`; keys and values stay on the GPU.
 *
 * It breaks one promise of `Engine`: a row's last bits depend on how many rows share its step, since the provider
 * computes one row and many by different kernels. So it is never chosen by itself, and a server that others replay
 * on should use `wgsl`.
 * @throws `engine` without a fitting adapter, or when onnxruntime-web does not load.
 */
export async function createOnnxGpuEngine(options: OnnxGpuEngineOptions): Promise<Engine> {
  const log = (options.log ?? silentLogger).child('onnx')
  const choice: Choice = {
    type: options.precision === 'f16' ? 'float16' : 'float',
    accuracyLevel: options.roundActivations === true ? 4 : 0,
  }
  const first = await open(options, log, choice, true)
  if (first.error <= TOLERANCE[choice.type]) return first.engine
  await first.engine.close()
  log.warn('onnxruntime computes wrong numbers with subgroups on this GPU; without them it is slower', {
    error: first.error,
  })
  const second = await open(options, log, choice, false)
  if (second.error <= TOLERANCE[choice.type]) return second.engine
  await second.engine.close()
  throw new ChoraleError(
    'engine',
    `onnxruntime's WebGPU provider computes wrong numbers on this GPU (self-test error ${second.error}, allowed ${TOLERANCE[choice.type]}); use another engine`,
  )
}

/** Largest self-test error of a provider that works: float32 rounding, half-precision activations. */
const TOLERANCE = { float: 1e-3, float16: 3e-2 } as const

/**
 * More tokens than flash attention's tile, and heads of whole quads: onnxruntime 1.30's attention with subgroups was
 * seen to be wrong from 33 tokens on where subgroups have 8 lanes (llvmpipe).
 */
const SELF_TEST_TOKENS = 70
const SELF_TEST: ModelSpec = { ...SELF_TEST_SPEC, headDim: 32, mlp: { kind: 'gated' }, activation: 'silu' }

interface Choice {
  readonly type: GpuPrecision
  readonly accuracyLevel: 0 | 4
}

/** Opens a device and tries it out. The error of a driver that refuses to compile is infinite. */
async function open(
  options: OnnxGpuEngineOptions,
  log: Logger,
  choice: Choice,
  subgroups: boolean,
): Promise<{ readonly engine: Engine; readonly error: number }> {
  const device = await openDevice({
    gpu: options.gpu,
    log,
    allowSoftware: options.allowSoftware ?? false,
    optionalFeatures: subgroups ? ['shader-f16', 'subgroups'] : ['shader-f16'],
    everyLimit: true,
  })
  if (choice.type === 'float16' && !device.raw.features.has('shader-f16')) {
    device.close()
    throw new ChoraleError('engine', `${device.adapter.name} has no shader-f16; use precision f32`)
  }
  const { accuracyLevel, type: precision } = choice
  const ort = await openOrtGpu(device.raw)
  const loadSpan = async (model: Model, loadOptions: LoadSpanOptions) => {
    const span = await loadGpuSpan(ort, model, { ...loadOptions, precision, accuracyLevel })
    device.check()
    return span
  }
  const engine: Engine = {
    name: 'onnx',
    description: `onnxruntime-web ${ORT_VERSION} WebGPU, ${options.precision ?? 'f32'}, ${device.adapter.name}`,
    threads: 0,
    async loadSpan(model, loadOptions) {
      checkSpan(model, loadOptions)
      checkSupport('onnx', model.spec, SUPPORTED)
      checkRotation(model.spec)
      return await loadSpan(model, loadOptions)
    },
    async loadHead(model, loadOptions = {}) {
      checkHeadSupport('onnx', model.spec, SUPPORTED)
      return await loadGpuHead(ort, model, precision, loadOptions)
    },
    close: async () => device.close(),
  }
  try {
    return { engine, error: await spanError(loadSpan, SELF_TEST, SELF_TEST_TOKENS) }
  } catch (error) {
    log.warn('onnxruntime fails on this GPU', { error: errorMessage(error) })
    return { engine, error: Infinity }
  }
}
