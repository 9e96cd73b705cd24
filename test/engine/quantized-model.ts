import type { BlockRole, ClientRole, Model, WeightTensor } from '../../src/model/model.ts'
import type { ModelSpec } from '../../src/model/spec.ts'
import { blockBytes, byteLength, type WeightDtype } from '../../src/tensor/weight.ts'
import { random } from '../gpu/test-context.ts'
import { ODD_SPEC, randomModel } from './random-model.ts'

/** Where a block of each format keeps its float16 factors, and values for them that give weights of about 0.1. */
const FACTORS: Readonly<Partial<Record<WeightDtype, readonly (readonly [offset: number, bits: number])[]>>> =
  {
    Q4_0: [[0, 0x2200]],
    Q4_1: [
      [0, 0x2200],
      [2, 0xada0],
    ],
    Q5_0: [[0, 0x1e00]],
    Q5_1: [
      [0, 0x1e00],
      [2, 0xada0],
    ],
    Q8_0: [[0, 0x1200]],
    IQ4_NL: [[0, 0x1200]],
    IQ4_XS: [[0, 0x0300]],
    Q4_K: [
      [0, 0x0e00],
      [2, 0x1200],
    ],
    Q5_K: [
      [0, 0x0a00],
      [2, 0x1200],
    ],
    // Subnormal.
    Q6_K: [[208, 0x0180]],
    Q3_K: [[108, 0x0e00]],
    Q2_K: [
      [80, 0x1600],
      [82, 0x1600],
    ],
  }

/** Seeded bytes of a quantised weight with sane factors, some of them negative, zero or subnormal. */
export function quantizedWeight(dtype: WeightDtype, shape: readonly number[], seed: number): WeightTensor {
  const next = random(seed)
  const bytes = Uint8Array.from({ length: byteLength(dtype, shape) }, () => ((next() + 1) / 2) * 256)
  const size = blockBytes(dtype)
  for (let at = 0, block = 0; at < bytes.length; at += size, block++) {
    for (const [offset, bits] of FACTORS[dtype] ?? []) {
      // Formats with minima stay centred: values that grow from block to block would magnify every rounding.
      const sign = next() < -0.8 && offset !== 2 && dtype !== 'Q4_1' && dtype !== 'Q5_1' ? 0x8000 : 0
      const factor =
        block % 11 === 3 ? 0 : block % 7 === 2 ? 0x0155 : (bits + Math.floor(Math.abs(next()) * 500)) & 0xffff
      bytes[at + offset] = factor & 255
      bytes[at + offset + 1] = ((factor ^ sign) >> 8) & 255
    }
  }
  return { dtype, shape, bytes }
}

/** `randomModel` with matrices of quantised formats; norms and biases stay float32. */
export function quantizedModel(
  spec: ModelSpec,
  dtypeOf: (role: BlockRole | ClientRole) => WeightDtype,
): Model {
  const plain = randomModel(spec, () => 'F32')
  const change = (key: string, role: BlockRole | ClientRole, weight: WeightTensor): WeightTensor => {
    const dtype = dtypeOf(role)
    if (weight.shape.length === 1 || dtype === 'F32') return weight
    return quantizedWeight(
      dtype,
      weight.shape,
      Array.from(key).reduce((sum, c) => Math.imul(sum, 31) + c.charCodeAt(0), 5),
    )
  }
  const info = (role: BlockRole | ClientRole, stored: Omit<WeightTensor, 'bytes'>) =>
    stored.shape.length === 1 ? stored : { dtype: dtypeOf(role), shape: stored.shape }
  return {
    ...plain,
    weights: {
      blockInfo: (block, role) => info(role, plain.weights.blockInfo(block, role)),
      block: async (block, role, signal) =>
        change(`${block}.${role}`, role, await plain.weights.block(block, role, signal)),
      clientInfo: (role) => info(role, plain.weights.clientInfo(role)),
      client: async (role, signal) => change(role, role, await plain.weights.client(role, signal)),
    },
  }
}

/** Widths that every format divides; heads of 32 with shared keys, an odd number of everything else. */
export const QUANTIZED_SPEC: ModelSpec = {
  ...ODD_SPEC,
  hiddenSize: 256,
  headCount: 8,
  kvHeadCount: 2,
  headDim: 32,
  intermediateSize: 512,
  vocabSize: 131,
  positions: {
    kind: 'rope',
    rotaryDim: 32,
    inverseFrequencies: Array.from({ length: 16 }, (_, index) => 10_000 ** (-index / 16)),
    attentionFactor: 1,
  },
}
