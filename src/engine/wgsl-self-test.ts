import { ChoraleError } from '../errors.ts'
import { bytesOf, ownBuffers, readFloats, upload, USAGE } from '../gpu/buffers.ts'
import { type GpuContext, padded, strided } from '../gpu/context.ts'
import type { MatmulKernelSource } from '../gpu/matmul-kernels.ts'
import { argmaxParts, createArgmax, readArgmax } from '../gpu/ops/argmax.ts'
import type { KvFormat } from '../gpu/ops/rope-kv-write.ts'
import { pseudo } from '../gpu/probe-weights.ts'
import type { ShaderSources } from '../gpu/shader-set.ts'
import type { Model } from '../model/model.ts'
import type { ModelSpec } from '../model/spec.ts'
import type { FactStore } from '../platform.ts'
import type { LoadSpanOptions } from './engine.ts'
import { SELF_TEST_SPEC, spanError } from './span-self-test.ts'
import { loadWgslSpan } from './wgsl-span.ts'

/** Largest |a - b| / max |b| of a driver that works, by KV format; float32 rounding stays a hundred times below. */
const TOLERANCE: Readonly<Record<KvFormat, number>> = { f32: 1e-4, f16: 5e-3 }

/** What the engine is opened with. */
export interface SelfTestOptions {
  readonly shaders: ShaderSources
  readonly kv: KvFormat
  readonly facts?: FactStore
}

/**
 * Runs every kernel on small blocks of three families and compares with the reference engine, unless `facts` say
 * that this adapter passed with these shaders. Matmul kernels of further weight formats are tried when they are
 * first compiled (`compileInvariantMatmul`).
 * @throws `engine` when the driver computes wrong numbers.
 */
export async function selfTest(
  context: GpuContext,
  kernels: MatmulKernelSource,
  { facts, kv, shaders }: SelfTestOptions,
): Promise<void> {
  const key = `wgsl ${context.device.adapter.name} ${shaderHash(shaders)}${kv === 'f32' ? '' : ` ${kv} KV`}`
  if ((await facts?.get(key)) === PASSED) return
  const allowed = TOLERANCE[kv]
  const load = (model: Model, options: LoadSpanOptions) => loadWgslSpan(context, kernels, model, options, kv)
  for (const { name, spec, tokens } of CASES) {
    const error = await spanError(load, spec, tokens)
    if (error <= allowed) continue
    throw new ChoraleError(
      'engine',
      `the GPU driver of ${context.device.adapter.name} computes wrong numbers (self-test ${name}: error ${error}, allowed ${allowed}); use another engine`,
    )
  }
  if (!(await findsHighest(context))) {
    throw new ChoraleError(
      'engine',
      `the GPU driver of ${context.device.adapter.name} finds wrong maxima (self-test argmax); use another engine`,
    )
  }
  await facts?.put(key, PASSED)
}

/** Whether `argmax.wgsl` finds the highest values of two rows of several parts, of equals the first. */
async function findsHighest({ buffers: base, ...rest }: GpuContext): Promise<boolean> {
  const buffers = ownBuffers(base)
  const context = { ...rest, buffers }
  const { device } = context
  try {
    const parts = argmaxParts(ARGMAX_WIDTH)
    const values = Float32Array.from({ length: 2 * ARGMAX_WIDTH }, (_, i) => pseudo(i, 7919) - 1)
    const [first, second] = ARGMAX_PLACES
    for (const place of [first, first + 1, ARGMAX_WIDTH + second, 2 * ARGMAX_WIDTH - 1]) values[place] = 3
    const usage = USAGE.storage | USAGE.copySource | USAGE.copyTarget
    const bytes = 2 * padded(2 * parts) * 4
    const input = await buffers.create('argmax input', values.byteLength, usage)
    const output = await buffers.create('argmax output', bytes, usage)
    const staging = await buffers.create('argmax readback', bytes, USAGE.mapRead | USAGE.copyTarget)
    upload(device, input, 0, bytesOf(values))
    const op = await createArgmax(context, { width: ARGMAX_WIDTH, input, output })
    const encoder = device.raw.createCommandEncoder()
    const pass = encoder.beginComputePass()
    op.encode(pass, 2, 1)
    pass.end()
    encoder.copyBufferToBuffer(output, 0, staging, 0, bytes)
    device.raw.queue.submit([encoder.finish()])
    const pairs = strided(await readFloats(device, staging, bytes / 4), padded(2 * parts), 2 * parts)
    return readArgmax(pairs, parts).join() === ARGMAX_PLACES.join()
  } finally {
    buffers.destroyAll()
  }
}

/** Three parts; the highest value of the first row is in the second, of the second row in the last. */
const ARGMAX_WIDTH = 5000
const ARGMAX_PLACES = [2100, 4321] as const

const PASSED = 'passed'

/** FNV-1a over all sources: tells kernel sets apart, keeps nobody out. */
function shaderHash(shaders: ShaderSources): string {
  let hash = 0x811c9dc5
  for (const text of [...shaders].toSorted(([a], [b]) => (a < b ? -1 : 1)).flat()) {
    for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
  }
  return (hash >>> 0).toString(16)
}

/**
 * Together they run every kernel, each matmul tile, several tiles and splits of keys, and a window's edge; of the
 * linear layers only two variants, since each costs three pipelines and is tried when it is first compiled.
 */
const CASES: readonly { name: string; spec: ModelSpec; tokens: number }[] = [
  { name: 'head norms, window', spec: { ...SELF_TEST_SPEC, qkNorm: true, windows: [70] }, tokens: 90 },
  {
    name: 'layer norms, linear biases, parallel',
    spec: {
      ...SELF_TEST_SPEC,
      norm: { kind: 'layer', epsilon: 1e-5 },
      residual: { kind: 'parallel', norms: 2 },
      positions: {
        kind: 'alibi',
        // Eight significant bits: products with positions have to be rounded.
        slopes: [181, 77, 53, 29, 13, 7].map((slope) => slope / 256),
        scaledByHeadDim: true,
        roundedBias: true,
      },
      biases: { qkv: true, attentionOut: true, mlp: true },
    },
    tokens: 270,
  },
  {
    name: 'experts',
    spec: { ...SELF_TEST_SPEC, mlp: { kind: 'moe', expertCount: 5, topK: 2, normalizeTopK: true } },
    tokens: 20,
  },
]
