import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createFileStore } from '../../node/file-store.ts'
import { readWasmKernels, startWasmThread } from '../../node/wasm-threads.ts'
import { relativeError } from '../../src/tensor/relative-error.ts'
import { computeClass, honestMargin } from '../../src/attest/margins.ts'
import type { Engine } from '../../src/engine/engine.ts'
import { createOnnxEngine } from '../../src/engine/onnx-engine.ts'
import { createReferenceEngine } from '../../src/engine/reference/reference-engine.ts'
import { createWasmEngine } from '../../src/engine/wasm-engine.ts'
import type { Model } from '../../src/model/model.ts'
import { openModel } from '../../src/model/open-model.ts'
import { dequantize } from '../../src/tensor/quant.ts'
import { quantize, type QuantisedDtype } from '../../src/tensor/quantize.ts'
import { rows, type Tensor, tensor } from '../../src/tensor/tensor.ts'
import { QUANTIZED_SPEC, quantizedModel } from '../engine/quantized-model.ts'
import { noise } from '../engine/span-runs.ts'

/** Measures the margins again: honest engines stay far inside, the cheapest cheats outside. */

let engines: ReadonlyMap<string, Engine>
let eightBit: Engine
let storyteller: Model
beforeAll(async () => {
  const wasm = { kernels: readWasmKernels, startThread: startWasmThread, threads: 1 }
  engines = new Map([
    ['reference', createReferenceEngine()],
    ['onnx', await createOnnxEngine({ threads: 1 })],
    ['wasm', await createWasmEngine(wasm)],
  ])
  eightBit = await createWasmEngine({ ...wasm, activationBits: 8 })
  const path = join(import.meta.dirname, '../../models/storyteller')
  storyteller = await openModel(path, { files: createFileStore() })
})
afterAll(async () => {
  await storyteller.close()
  await Promise.all([...engines.values(), eightBit].map(async (engine) => await engine.close()))
})

/** Rows of the embedding that no text would put together. */
async function embedded(model: Model, count: number): Promise<Tensor> {
  const { hiddenSize, vocabSize } = model.spec
  const table = dequantize(await model.weights.client('embedding'))
  const data = new Float32Array(count * hiddenSize)
  for (let i = 0; i < count; i++) {
    const id = (i * 7919 + 13) % vocabSize
    data.set(table.subarray(id * hiddenSize, (id + 1) * hiddenSize), i * hiddenSize)
  }
  return tensor(count, hiddenSize, data)
}

/** Outputs step by step: half of the tokens at once, the others one by one. */
async function outputs(engine: Engine, model: Model, hidden: Tensor, end?: number): Promise<Float32Array[]> {
  const [count] = hidden.shape
  const span = await engine.loadSpan(model, {
    start: 0,
    end: end ?? model.spec.blockCount,
    kvTokens: count + 16,
  })
  const lease = span.lease(count)
  const parts: Float32Array[] = []
  for (let at = 0; at < count;) {
    const next = at === 0 ? count / 2 : at + 1
    const [out] = await span.step([{ lease, hidden: rows(hidden, at, next) }])
    parts.push(out!.data.slice())
    at = next
  }
  lease.release()
  await span.close()
  return parts
}

const worst = (a: readonly Float32Array[], b: readonly Float32Array[]) =>
  Math.max(...a.map((part, i) => relativeError(part, b[i]!)))

async function pairs(
  model: Model,
  hidden: Tensor,
): Promise<{ pair: string; error: number; margin: number }[]> {
  const runs = new Map<string, Float32Array[]>()
  for (const [name, engine] of engines) runs.set(name, await outputs(engine, model, hidden))
  return [...runs].flatMap(([a, x]) =>
    [...runs].flatMap(([b, y]) => {
      if (a === b) return []
      const margin = honestMargin(computeClass(a, 'float'), computeClass(b, 'float'), 'f32')
      return [{ pair: `${a} / ${b}`, error: worst(x, y), margin }]
    }),
  )
}

describe('honestMargin', () => {
  it('is at least five times what engines differ by on the bundled model', async () => {
    for (const { pair, error, margin } of await pairs(storyteller, await embedded(storyteller, 24))) {
      expect([pair, error * 5 < margin]).toEqual([pair, true])
    }
  })

  it.each(['Q4_1', 'Q8_0'] as const)(
    'is four times that on quantised weights, less than activations in 8 bits cost: %s',
    async (dtype) => {
      const model = quantizedModel({ ...QUANTIZED_SPEC, blockCount: 1 }, () => dtype)
      for (const { pair, error, margin } of await pairs(model, noise(12, model.spec.hiddenSize))) {
        expect([pair, error * 4 < margin]).toEqual([pair, true])
      }
      const hidden = noise(12, model.spec.hiddenSize)
      const float = await outputs(engines.get('onnx')!, model, hidden)
      const margin = honestMargin('rounded-15', 'float32', 'f32')
      expect(worst(await outputs(eightBit, model, hidden), float)).toBeGreaterThan(margin)
    },
  )

  it('is far less than a cheat makes: weights in 8 or 4 bits, a block left out, the last answer again', async () => {
    const hidden = await embedded(storyteller, 12)
    const engine = engines.get('wasm')!
    const honest = await outputs(engines.get('reference')!, storyteller, hidden)
    const margin = honestMargin('rounded-15', 'float32', 'f32')
    const rounded = async (dtype: QuantisedDtype) =>
      worst(await outputs(engine, roundedModel(storyteller, dtype), hidden), honest)
    const shorter = await outputs(engine, storyteller, hidden, storyteller.spec.blockCount - 1)
    const repeated = [...honest.slice(0, -1), honest.at(-2)]
    expect(await rounded('Q8_0')).toBeGreaterThan(5 * margin)
    expect(await rounded('Q4_1')).toBeGreaterThan(100 * margin)
    expect(worst(shorter, honest)).toBeGreaterThan(100 * margin)
    expect(worst(repeated, honest)).toBeGreaterThan(100 * margin)
  })

  it('compares an exact engine with an exact one only, to the last bit', () => {
    expect(honestMargin('exact', 'exact', 'f32')).toBe(0)
    expect(honestMargin('exact', 'float32', 'f32')).toBe(Infinity)
    expect(computeClass('wasm', 'exact')).toBe('exact')
  })

  it('widens by what the wire rounds off', () => {
    expect(honestMargin('float32', 'float32', 'bf16')).toBeGreaterThan(2 ** -8)
    expect(honestMargin('float32', 'float32', 'f16')).toBeLessThan(2 ** -8)
  })
})

/** The same model as a cheat would load it: matrices rounded, and said to be whole. */
function roundedModel(model: Model, dtype: QuantisedDtype): Model {
  const { weights } = model
  return {
    ...model,
    weights: {
      ...weights,
      blockInfo: (block, role) => {
        const info = weights.blockInfo(block, role)
        return info.shape.length === 2 ? { ...info, dtype: 'F32' as const } : info
      },
      async block(block, role, signal) {
        const weight = await weights.block(block, role, signal)
        if (weight.shape.length !== 2) return weight
        const bytes = quantize(dtype, dequantize(weight))
        const values = dequantize({ dtype, shape: weight.shape, bytes })
        return {
          dtype: 'F32',
          shape: weight.shape,
          bytes: new Uint8Array(values.buffer, values.byteOffset, values.byteLength),
        }
      },
    },
  }
}
