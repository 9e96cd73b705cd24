import type { BlockRole, Model } from '../../model/model.ts'
import type { ModelSpec } from '../../model/spec.ts'
import { dequantize } from '../../tensor/quant.ts'
import { layOutColumns, layOutRows, type HeadLayout } from './head-layout.ts'

/** Float32 bytes of one block's weights as the graph holds them. */
export function blockWeightBytes(spec: ModelSpec, layout: HeadLayout): number {
  const { hiddenSize, intermediateSize, headCount, kvHeadCount, biases } = spec
  const qkvWidth = (headCount + 2 * kvHeadCount) * layout.width
  const matrices = (qkvWidth + headCount * layout.width + 3 * intermediateSize) * hiddenSize
  const qkvBias = biases.qkv ? qkvWidth : 0
  const outBias = biases.attentionOut ? hiddenSize : 0
  const mlpBias = biases.mlp ? 2 * intermediateSize + hiddenSize : 0
  return 4 * (matrices + 2 * hiddenSize + qkvBias + outBias + mlpBias)
}

/**
 * Reads one block's weights as float32 under the names of `blockGraph`: q, k and v as one matrix, gate and up
 * as one, heads in the layout's order. Stored tensors are read and converted one after the other.
 */
export async function readBlock(
  model: Model,
  layout: HeadLayout,
  block: number,
  signal?: AbortSignal,
): Promise<Map<string, Float32Array>> {
  const { spec } = model
  const { hiddenSize, headDim, headCount, kvHeadCount, intermediateSize, biases } = spec
  const { width, plain } = layout
  const weights = new Map<string, Float32Array>()
  const read = async (role: BlockRole): Promise<Float32Array> =>
    dequantize(await model.weights.block(block, role, signal))

  const readQkv = async (roles: readonly BlockRole[], columns: number): Promise<Float32Array> => {
    const fused = new Float32Array((headCount + 2 * kvHeadCount) * width * columns)
    let row = 0
    for (const [index, role] of roles.entries()) {
      const slots = index < 2 ? layout.rotarySlots : layout.valueSlots
      layOutRows(await read(role), fused.subarray(row * columns), slots, headDim, columns)
      row += (index === 0 ? headCount : kvHeadCount) * width
    }
    return fused
  }
  const readPair = async (first: BlockRole, second: BlockRole, columns: number): Promise<Float32Array> => {
    const fused = new Float32Array(2 * intermediateSize * columns)
    fused.set(await read(first), 0)
    fused.set(await read(second), intermediateSize * columns)
    return fused
  }

  weights.set('attentionNorm.weight', await read('attentionNorm'))
  weights.set('qkv.weight', await readQkv(['q', 'k', 'v'], hiddenSize))
  if (biases.qkv) weights.set('qkv.bias', await readQkv(['qBias', 'kBias', 'vBias'], 1))
  let out = await read('o')
  if (!plain) {
    const stored = out
    out = new Float32Array(hiddenSize * headCount * width)
    layOutColumns(stored, out, layout.valueSlots, headDim, headCount)
  }
  weights.set('o.weight', out)
  if (biases.attentionOut) weights.set('o.bias', await read('oBias'))
  weights.set('mlpNorm.weight', await read('mlpNorm'))
  weights.set('gateUp.weight', await readPair('gate', 'up', hiddenSize))
  if (biases.mlp) weights.set('gateUp.bias', await readPair('gateBias', 'upBias', 1))
  weights.set('down.weight', await read('down'))
  if (biases.mlp) weights.set('down.bias', await read('downBias'))
  return weights
}
