import type { Logger } from '../../log.ts'
import type { Model } from '../../model/model.ts'
import type { ModelSpec } from '../../model/spec.ts'
import { relativeError } from '../../tensor/relative-error.ts'
import { SELF_TEST_SPEC, selfTestModel, spanOutput } from '../span-self-test.ts'
import type { KernelCode } from './kernel-code.ts'
import { createWasmRuntime } from './runtime.ts'
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

/** Rows of each step: a tile of pairs and one more, a few, a single one. */
const STEPS = [17, 3, 1]

/** Whether both kernels give the same for a block of every weight format, with activations of 15 and of 8 bits. */
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
  return true
}

async function output(code: KernelCode, model: Model, wide: boolean, log: Logger): Promise<Float32Array> {
  const runtime = await createWasmRuntime({ threads: 1, code, startThread: undefined, log, wide })
  try {
    return await spanOutput((_, options) => loadWasmSpan(runtime, model, options), model, STEPS)
  } finally {
    await runtime.close()
  }
}
