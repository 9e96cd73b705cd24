import { ChoraleError, errorMessage } from '../errors.ts'
import { describeAdapter, openDevice } from '../gpu/device.ts'
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
 * The onnx engine on a GPU, through onnxruntime-web's WebGPU provider: Q4_0, Q4_1 and Q8_0 weights stay quantised,
 * other formats are kept in `precision`; keys and values stay on the GPU.
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
  const adapter = await describeAdapter(options.gpu)
  const first = await open(options, log, choice, adapter?.software === false)
  if (first.error <= TOLERANCE) return first.engine
  await first.engine.close()
  log.warn('onnxruntime computes wrong numbers with subgroups on this GPU; without them it is slower', {
    error: first.error,
  })
  const second = await open(options, log, choice, false)
  if (second.error <= TOLERANCE) return second.engine
  await second.engine.close()
  throw new ChoraleError(
    'engine',
    `onnxruntime's WebGPU provider computes wrong numbers on this GPU (self-test error ${second.error}, allowed ${TOLERANCE}); use another engine`,
  )
}

/** Largest self-test error of a provider that works; float32 rounding stays far below. */
const TOLERANCE = 1e-3

/**
 * Rows enough for every kernel's whole tiles: with subgroups of 8 lanes (llvmpipe), onnxruntime 1.30 was seen to compute
 * wrong rows from 32 rows of 256 values on, and right ones below.
 */
const SELF_TEST_TOKENS = 70
const SELF_TEST: ModelSpec = {
  ...SELF_TEST_SPEC,
  hiddenSize: 256,
  headDim: 32,
  mlp: { kind: 'gated' },
  activation: 'silu',
  biases: { qkv: true, attentionOut: true, mlp: true },
}

interface Choice {
  readonly type: GpuPrecision
  readonly accuracyLevel: 0 | 4
}

/**
 * Opens a device and tries it out in float32, whatever the precision: rounding to halves would hide what a wrong kernel
 * does. The error of a driver that refuses to compile is infinite.
 */
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
  const ort = await openOrtGpu(device.raw)
  const loadSpan = async (model: Model, loadOptions: LoadSpanOptions, how: Choice) => {
    const { accuracyLevel, type: precision } = how
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
      return await loadSpan(model, loadOptions, choice)
    },
    async loadHead(model, loadOptions = {}) {
      checkHeadSupport('onnx', model.spec, SUPPORTED)
      return await loadGpuHead(ort, model, choice.type, loadOptions)
    },
    close: async () => device.close(),
  }
  try {
    const exact = (model: Model, loadOptions: LoadSpanOptions) =>
      loadSpan(model, loadOptions, { type: 'float', accuracyLevel: 0 })
    return { engine, error: await spanError(exact, SELF_TEST, SELF_TEST_TOKENS) }
  } catch (error) {
    log.warn('onnxruntime fails on this GPU', { error: errorMessage(error) })
    return { engine, error: Infinity }
  }
}
