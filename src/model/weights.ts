import { ChoraleError } from '../errors.ts'
import type { TensorNames } from './family.ts'
import type { BlockRole, ClientRole, ModelWeights, WeightTensor } from './model.ts'
import type { ModelSpec } from './spec.ts'
import { readWeight, type StoredTensor, type TensorTable, weightInfo } from './tensor-table.ts'

/** Changes a weight after reading, e.g. the order of its rows. */
export type WeightTransform = (role: BlockRole | ClientRole, weight: WeightTensor) => WeightTensor

/**
 * Weights by role over a tensor table.
 *
 * The first weight asked of a block announces all of the block's ranges to sources that fetch from far
 * (`ByteSource.prefetch`), which join neighbours into few requests.
 */
export function weightsByRole(options: {
  readonly modelName: string
  readonly spec: ModelSpec
  readonly names: TensorNames
  readonly table: TensorTable
  readonly transform?: WeightTransform
}): ModelWeights {
  const { modelName, names, spec, table } = options
  const transform = options.transform ?? ((_role, weight) => weight)
  const prefetched = new Set<number>()

  const find = (
    variants: readonly string[] | undefined,
    role: string,
    shape: readonly number[],
    i?: number,
  ) => {
    const candidates = (variants ?? []).map((name) => name.replace('{i}', String(i)))
    for (const name of candidates) {
      const stored = table.get(name)
      if (stored !== undefined) return checkShape(modelName, stored, shape)
    }
    const name = candidates[0] ?? role
    throw new ChoraleError('not_found', `${modelName}: no tensor ${name}`, { field: name })
  }
  const blockTensor = (block: number, role: BlockRole) => {
    if (!Number.isInteger(block) || block < 0 || block >= spec.blockCount) {
      throw new ChoraleError('bad_request', `block ${block} outside ${modelName}'s ${spec.blockCount} blocks`)
    }
    return find(names.block[role], role, blockShape(spec, role), block)
  }
  const clientTensor = (role: ClientRole) => {
    const stored = role === 'head' && spec.tiedHead ? 'embedding' : role
    return find(names.client[stored], role, clientShape(spec, role))
  }
  const prefetchBlock = async (block: number, signal: AbortSignal | undefined) => {
    if (prefetched.has(block)) return
    prefetched.add(block)
    const bySource = new Map<StoredTensor['source'], StoredTensor[]>()
    for (const role of blockRoles(spec)) {
      const stored = blockTensor(block, role)
      if (stored.source.prefetch === undefined) continue
      bySource.set(stored.source, [...(bySource.get(stored.source) ?? []), stored])
    }
    try {
      for (const [source, tensors] of bySource) {
        await source.prefetch?.(
          tensors.map(({ byteLength, offset }) => ({ offset, length: byteLength })),
          signal,
        )
      }
    } catch (error) {
      prefetched.delete(block)
      throw error
    }
  }

  return {
    blockInfo: (block, role) => weightInfo(blockTensor(block, role)),
    block: async (block, role, signal) => {
      const stored = blockTensor(block, role)
      await prefetchBlock(block, signal)
      return transform(role, await readWeight(stored, signal))
    },
    clientInfo: (role) => weightInfo(clientTensor(role)),
    client: async (role, signal) => transform(role, await readWeight(clientTensor(role), signal)),
  }
}

/** The weights a block of this spec has: biases only where it has them. */
export function blockRoles(spec: ModelSpec): readonly BlockRole[] {
  const { attentionOut, mlp, qkv } = spec.biases
  return [
    'attentionNorm',
    'q',
    'k',
    'v',
    ...(qkv ? (['qBias', 'kBias', 'vBias'] as const) : []),
    'o',
    ...(attentionOut ? (['oBias'] as const) : []),
    'mlpNorm',
    'gate',
    'up',
    'down',
    ...(mlp ? (['gateBias', 'upBias', 'downBias'] as const) : []),
  ]
}

/** Shape of a block's weight: matrices [out, in], biases and norms [out]. */
export function blockShape(spec: ModelSpec, role: BlockRole): readonly number[] {
  const { headCount, headDim, hiddenSize, intermediateSize, kvHeadCount } = spec
  switch (role) {
    case 'attentionNorm':
    case 'mlpNorm':
    case 'oBias':
    case 'downBias':
      return [hiddenSize]
    case 'q':
      return [headCount * headDim, hiddenSize]
    case 'k':
    case 'v':
      return [kvHeadCount * headDim, hiddenSize]
    case 'qBias':
      return [headCount * headDim]
    case 'kBias':
    case 'vBias':
      return [kvHeadCount * headDim]
    case 'o':
      return [hiddenSize, headCount * headDim]
    case 'gate':
    case 'up':
      return [intermediateSize, hiddenSize]
    case 'gateBias':
    case 'upBias':
      return [intermediateSize]
    case 'down':
      return [hiddenSize, intermediateSize]
  }
}

function clientShape(spec: ModelSpec, role: ClientRole): readonly number[] {
  return role === 'finalNorm' ? [spec.hiddenSize] : [spec.vocabSize, spec.hiddenSize]
}

function checkShape(modelName: string, stored: StoredTensor, shape: readonly number[]): StoredTensor {
  const same = stored.shape.length === shape.length && stored.shape.every((size, i) => size === shape[i])
  if (same) return stored
  throw new ChoraleError(
    'bad_file',
    `${modelName}: ${stored.name} is [${stored.shape.join(', ')}], the config wants [${shape.join(', ')}]`,
    { field: stored.name },
  )
}
