import type { BlockRole, Model } from '../../model/model.ts'
import { blockRoles } from '../../model/weights.ts'
import { dequantize } from '../../tensor/quant.ts'
import {
  BLOCK_ATTENTION_NORM,
  BLOCK_ATTENTION_NORM_BIAS,
  BLOCK_DOWN,
  BLOCK_EXPERTS,
  BLOCK_GATE,
  BLOCK_K,
  BLOCK_K_NORM,
  BLOCK_MLP_NORM,
  BLOCK_MLP_NORM_BIAS,
  BLOCK_O,
  BLOCK_Q,
  BLOCK_Q_NORM,
  BLOCK_ROUTER,
  BLOCK_UP,
  BLOCK_V,
  BLOCK_WINDOW,
  EXPERT_BYTES,
  EXPERT_DOWN,
  EXPERT_GATE,
  EXPERT_UP,
} from './layout.ts'
import type { Arena } from './linear-memory.ts'
import { planDtype } from './pack-matrix.ts'
import { recordAt, type RecordWriter, storeMatrix, storeVector } from './records.ts'
import type { WasmRuntime } from './runtime.ts'

const MATRICES: readonly (readonly [role: BlockRole, bias: BlockRole, offset: number])[] = [
  ['q', 'qBias', BLOCK_Q],
  ['k', 'kBias', BLOCK_K],
  ['v', 'vBias', BLOCK_V],
  ['o', 'oBias', BLOCK_O],
  ['gate', 'gateBias', BLOCK_GATE],
  ['up', 'upBias', BLOCK_UP],
  ['down', 'downBias', BLOCK_DOWN],
]

const VECTORS: readonly (readonly [role: BlockRole, offset: number])[] = [
  ['attentionNorm', BLOCK_ATTENTION_NORM],
  ['attentionNormBias', BLOCK_ATTENTION_NORM_BIAS],
  ['mlpNorm', BLOCK_MLP_NORM],
  ['mlpNormBias', BLOCK_MLP_NORM_BIAS],
  ['qNorm', BLOCK_Q_NORM],
  ['kNorm', BLOCK_K_NORM],
]

const EXPERT_MATRICES: readonly (readonly [name: 'gate' | 'up' | 'down', offset: number])[] = [
  ['gate', EXPERT_GATE],
  ['up', EXPERT_UP],
  ['down', EXPERT_DOWN],
]

/** Bytes that blocks [start, end) will take in linear memory; reads no weight. */
export function plannedWeightBytes(model: Model, start: number, end: number): number {
  let bytes = 0
  for (let block = start; block < end; block++) {
    for (const role of blockRoles(model.spec)) {
      const { dtype, shape } = model.weights.blockInfo(block, role)
      bytes +=
        shape.length === 2 ? planDtype(role === 'router' ? 'F32' : dtype, shape).bytes : (shape[0] ?? 0) * 4
    }
  }
  return bytes
}

/** Packs one block into linear memory, a tensor at a time, and writes its record (zeroed before). @returns its bytes. */
export async function loadBlockWeights(
  runtime: WasmRuntime,
  arena: Arena,
  model: Model,
  block: number,
  record: RecordWriter,
  signal: AbortSignal | undefined,
): Promise<number> {
  const { memory } = runtime
  const { spec, weights } = model
  const roles = new Set(blockRoles(spec))
  let bytes = 0
  const vectors = new Map<BlockRole, number>()
  for (const [role, offset] of VECTORS) {
    if (!roles.has(role)) continue
    const stored = storeVector(memory, arena, await weights.block(block, role, signal))
    record.integer(offset, stored.address)
    vectors.set(role, stored.address)
    bytes += stored.bytes
  }
  if (!roles.has('mlpNorm')) {
    // One norm for both: normed again for the mlp, whose matrices may want it rounded in another way.
    record.integer(BLOCK_MLP_NORM, vectors.get('attentionNorm') ?? 0)
    record.integer(BLOCK_MLP_NORM_BIAS, vectors.get('attentionNormBias') ?? 0)
  }
  record.integer(BLOCK_WINDOW, spec.windows[block] ?? 0)
  const matrix = async (role: BlockRole, biasRole: BlockRole | undefined): Promise<number> => {
    const bias =
      biasRole !== undefined && roles.has(biasRole) ? await weights.block(block, biasRole, signal) : undefined
    const stored = storeMatrix(memory, arena, await weights.block(block, role, signal), bias, runtime.wide)
    bytes += stored.bytes
    return stored.address
  }
  for (const [role, biasRole, offset] of MATRICES) {
    if (roles.has(role)) record.integer(offset, await matrix(role, biasRole))
  }
  if (spec.mlp.kind !== 'moe') return bytes
  const router = await weights.block(block, 'router', signal)
  const values = dequantize(router)
  // Which experts a row takes is decided in float32, whatever the file's format.
  const floats = { dtype: 'F32', shape: router.shape, bytes: new Uint8Array(values.slice().buffer) } as const
  const stored = storeMatrix(memory, arena, floats, undefined, false)
  record.integer(BLOCK_ROUTER, stored.address)
  bytes += stored.bytes
  const experts = arena.allocate(spec.mlp.expertCount * EXPERT_BYTES, 'records')
  record.integer(BLOCK_EXPERTS, experts)
  for (let index = 0; index < spec.mlp.expertCount; index++) {
    const expert = recordAt(memory, experts + index * EXPERT_BYTES)
    for (const [name, offset] of EXPERT_MATRICES) {
      expert.integer(offset, await matrix(`${name}.${index}`, undefined))
    }
  }
  return bytes
}
