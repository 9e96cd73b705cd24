import { probeWeights, pseudo } from '../../gpu/probe-weights.ts'
import type { Logger } from '../../log.ts'
import type { Model } from '../../model/model.ts'
import type { ModelSpec } from '../../model/spec.ts'
import { relativeError } from '../../tensor/relative-error.ts'
import type { WeightTensor } from '../../tensor/weight.ts'
import { SELF_TEST_SPEC, selfTestModel, spanOutput } from '../span-self-test.ts'
import type { KernelCode } from './kernel-code.ts'
import { BEST_BYTES, BEST_SLACK, OCTET, ROUNDED_BYTES_PER_VALUE, SCREENED_BYTES_PER_VALUE } from './layout.ts'
import { createArena } from './linear-memory.ts'
import { storeMatrix } from './records.ts'
import { createWasmRuntime, type WasmRuntime } from './runtime.ts'
import { loadWasmSpan } from './wasm-span.ts'

/** Rows of 256 values where a weight format asks for them; heads that share keys and values. */
const SPEC: ModelSpec = {
  ...SELF_TEST_SPEC,
  hiddenSize: 256,
  headCount: 2,
  kvHeadCount: 1,
  headDim: 32,
  intermediateSize: 96,
  mlp: { kind: 'gated' },
  activation: 'silu',
}

/**
 * Together all formats that have kernels of their own. Rounded activations times integers have the same bits everywhere;
 * products of plain weights are rounded before they are added or not (`kernels/madd.ts`), so these may differ by a share of
 * the largest value.
 */
const CASES = [
  {
    formats: {
      q: 'q4',
      k: 'q4_symmetric',
      v: 'q4_wide',
      o: 'q8',
      gate: 'q8_wide',
      up: 'q8_affine',
      down: 'q4',
    },
    margin: 0,
  },
  {
    formats: { q: 'f32', k: 'f16', v: 'bf16', o: 'f32', gate: 'f16', up: 'bf16', down: 'f16' },
    margin: 1e-5,
  },
] as const

/** A tile of four rows and three more. */
const SCREENED_ROWS = 7

/** Rows of each step: a tile of pairs and one more, a few, a single one. */
const STEPS = [17, 3, 1]

/**
 * Whether both kernels give the same for a block of every weight format, with activations of 15 and of 8 bits, and whether they
 * screen alike.
 */
export async function computesTheSame(a: KernelCode, b: KernelCode, log: Logger): Promise<boolean> {
  for (const { formats, margin } of CASES) {
    const model = selfTestModel(SPEC, formats)
    for (const wide of [true, false]) {
      const first = await output(a, model, wide, log)
      const second = await output(b, model, wide, log)
      const same =
        margin === 0
          ? first.every((value, i) => Object.is(value, second[i]))
          : relativeError(second, first) <= margin
      if (!same) return false
    }
  }
  const [first, second] = [await screening(a, log), await screening(b, log)]
  return first.every((value, i) => Object.is(value, second[i]))
}

async function output(code: KernelCode, model: Model, wide: boolean, log: Logger): Promise<Float32Array> {
  const runtime = await createWasmRuntime({ threads: 1, code, startThread: undefined, log, wide })
  try {
    return await spanOutput((_, options) => loadWasmSpan(runtime, model, options), model, STEPS)
  } finally {
    await runtime.close()
  }
}

/** What screening knows of the products of a few rows and 8-bit weights of both layouts. */
async function screening(code: KernelCode, log: Logger): Promise<Float32Array> {
  const runtime = await createWasmRuntime({ threads: 1, code, startThread: undefined, log, wide: true })
  try {
    const x = Float32Array.from({ length: SCREENED_ROWS * SPEC.hiddenSize }, (_, i) => pseudo(i, 7919))
    const known = (['q8', 'q8_wide'] as const).flatMap((format) => {
      const weight = probeWeights(format, 24, SPEC.hiddenSize, 5)
      return [true, false].flatMap((wide) => {
        const { parts, slack } = screenedParts(runtime, weight, x, SCREENED_ROWS, wide)
        return [...parts, ...slack]
      })
    })
    return Float32Array.from(known)
  } finally {
    await runtime.close()
  }
}

/**
 * Of an 8-bit matrix times `rows` rows `x`: 256th parts of the outputs, or halves where activations are not `wide`, which screening
 * goes by, [rows, outputs in whole octets], and how much more an output can be for each |w|, [rows].
 */
export function screenedParts(
  { code, exports, memory }: WasmRuntime,
  weight: WeightTensor,
  x: Float32Array,
  rows: number,
  wide: boolean,
): { parts: Float32Array; slack: Float32Array } {
  const [outputs = 0, columns = 0] = weight.shape
  const octets = Math.ceil(outputs / OCTET)
  const arena = createArena(memory)
  const place = (bytes: number) => arena.allocate(bytes, 'screening')
  const matrix = storeMatrix(memory, arena, weight, undefined, wide).address
  const input = place(x.byteLength)
  memory.floats(input, x.length).set(x)
  const rounded = place(rows * columns * ROUNDED_BYTES_PER_VALUE)
  const screened = place(rows * columns * SCREENED_BYTES_PER_VALUE)
  const bests = place(rows * BEST_BYTES)
  const out = place(rows * octets * OCTET * 4)
  exports.multiply(matrix, octets, input, columns, rounded, rows, out, octets * OCTET * 4)
  exports.screen(matrix, octets, columns, rounded, rows, screened, bests, out, octets * OCTET * 4)
  code.done()
  const parts = memory.floats(out, rows * octets * OCTET).slice()
  const slack = Float32Array.from(
    { length: rows },
    (_, row) => memory.floats(bests + row * BEST_BYTES + BEST_SLACK, 1)[0]!,
  )
  arena.close()
  return { parts, slack }
}
