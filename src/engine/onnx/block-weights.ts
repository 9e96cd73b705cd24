import type { BlockRole, Model } from '../../model/model.ts'
import type { ModelSpec } from '../../model/spec.ts'
import { blockRoles, blockShape } from '../../model/weights.ts'
import { dequantize } from '../../tensor/quant.ts'
import { layOutColumns, layOutRows, type HeadLayout } from './head-layout.ts'

/** Float32 bytes of one block's weights, experts included, as the graphs hold them. */
export function blockWeightBytes(spec: ModelSpec, layout: HeadLayout): number {
  let values = 0
  for (const role of blockRoles(spec)) {
    const count = blockShape(spec, role).reduce((product, size) => product * size, 1)
    values += PADDED.has(role) ? (count / spec.headDim) * layout.width : count
  }
  return 4 * values
}

/** Weights whose heads are padded to the layout's width. */
const PADDED: ReadonlySet<BlockRole> = new Set<BlockRole>([
  'q',
  'k',
  'v',
  'qBias',
  'kBias',
  'vBias',
  'qNorm',
  'kNorm',
  'o',
])

/** Weights of a graph by name, in float32. */
export type GraphWeights = Map<string, Float32Array>

/**
 * Reads one block's weights, all but experts, as float32 under the names of `blockGraph`: q, k and v as one matrix,
 * gate and up as one, heads in the layout's order. Stored tensors are read and converted one after the other.
 * @param skip layers (`qkv`, `o`, `gateUp`, `up`, `down`) whose weight matrix is left out: the caller has it otherwise.
 */
export async function readBlock(
  model: Model,
  layout: HeadLayout,
  block: number,
  signal?: AbortSignal,
  skip: ReadonlySet<string> = NO_LAYERS,
): Promise<GraphWeights> {
  const { spec } = model
  const { hiddenSize, headDim, headCount, kvHeadCount, mlp, biases } = spec
  const { width, plain } = layout
  const roles = new Set(blockRoles(spec))
  const weights: GraphWeights = new Map()
  const read = reader(model, block, signal)
  const readNorm = async (role: 'attentionNorm' | 'mlpNorm'): Promise<void> => {
    if (roles.has(role)) weights.set(`${role}.weight`, await read(role))
    if (roles.has(`${role}Bias`)) weights.set(`${role}.bias`, await read(`${role}Bias`))
  }
  const readQkv = async (parts: readonly BlockRole[], columns: number): Promise<Float32Array> => {
    const fused = new Float32Array((headCount + 2 * kvHeadCount) * width * columns)
    let row = 0
    for (const [index, role] of parts.entries()) {
      const slots = index < 2 ? layout.rotarySlots : layout.valueSlots
      layOutRows(await read(role), fused.subarray(row * columns), slots, headDim, columns)
      row += (index === 0 ? headCount : kvHeadCount) * width
    }
    return fused
  }
  const readOut = async (): Promise<Float32Array> => {
    const stored = await read('o')
    if (plain) return stored
    const out = new Float32Array(hiddenSize * headCount * width)
    layOutColumns(stored, out, layout.valueSlots, headDim, headCount)
    return out
  }
  const readHeadNorm = async (role: 'qNorm' | 'kNorm'): Promise<Float32Array> => {
    const laidOut = new Float32Array(width)
    layOutRows(await read(role), laidOut, layout.rotarySlots, headDim, 1)
    return plain ? laidOut : laidOut.map((value) => value * Math.sqrt(headDim / width))
  }

  await readNorm('attentionNorm')
  if (!skip.has('qkv')) weights.set('qkv.weight', await readQkv(['q', 'k', 'v'], hiddenSize))
  if (biases.qkv) weights.set('qkv.bias', await readQkv(['qBias', 'kBias', 'vBias'], 1))
  if (spec.qkNorm) {
    weights.set('qNorm.weight', await readHeadNorm('qNorm'))
    weights.set('kNorm.weight', await readHeadNorm('kNorm'))
  }
  if (!skip.has('o')) weights.set('o.weight', await readOut())
  if (biases.attentionOut) weights.set('o.bias', await read('oBias'))
  await readNorm('mlpNorm')
  if (mlp.kind === 'moe') weights.set('router.weight', await read('router'))
  else await readMlp(spec, read, weights, skip)
  return weights
}

/** Reads one expert's weights as float32 under the names of `expertGraph`. */
export async function readExpert(
  model: Model,
  block: number,
  expert: number,
  signal?: AbortSignal,
): Promise<GraphWeights> {
  const { hiddenSize, intermediateSize } = model.spec
  const read = reader(model, block, signal)
  const fused = new Float32Array(2 * intermediateSize * hiddenSize)
  fused.set(await read(`gate.${expert}`), 0)
  fused.set(await read(`up.${expert}`), fused.length / 2)
  return new Map([
    ['gateUp.weight', fused],
    ['down.weight', await read(`down.${expert}`)],
  ])
}

const NO_LAYERS: ReadonlySet<string> = new Set()

type Read = (role: BlockRole) => Promise<Float32Array>

function reader(model: Model, block: number, signal: AbortSignal | undefined): Read {
  return async (role) => dequantize(await model.weights.block(block, role, signal))
}

async function readMlp(
  spec: ModelSpec,
  read: Read,
  weights: GraphWeights,
  skip: ReadonlySet<string>,
): Promise<void> {
  const { hiddenSize, intermediateSize, biases } = spec
  const readPair = async (first: BlockRole, second: BlockRole, columns: number): Promise<Float32Array> => {
    const fused = new Float32Array(2 * intermediateSize * columns)
    fused.set(await read(first), 0)
    fused.set(await read(second), intermediateSize * columns)
    return fused
  }
  if (spec.mlp.kind === 'plain') {
    if (!skip.has('up')) weights.set('up.weight', await read('up'))
    if (biases.mlp) weights.set('up.bias', await read('upBias'))
  } else {
    if (!skip.has('gateUp')) weights.set('gateUp.weight', await readPair('gate', 'up', hiddenSize))
    if (biases.mlp) weights.set('gateUp.bias', await readPair('gateBias', 'upBias', 1))
  }
  if (!skip.has('down')) weights.set('down.weight', await read('down'))
  if (biases.mlp) weights.set('down.bias', await read('downBias'))
}
