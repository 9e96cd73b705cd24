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
  const { biases, residual } = spec
  const some = (present: boolean, ...roles: readonly BlockRole[]) => (present ? roles : [])
  const layerNorm = spec.norm.kind === 'layer'
  const ownMlpNorm = residual.kind === 'sequential' || residual.norms === 2
  return [
    'attentionNorm',
    ...some(layerNorm, 'attentionNormBias'),
    'q',
    'k',
    'v',
    ...some(biases.qkv, 'qBias', 'kBias', 'vBias'),
    ...some(spec.qkNorm, 'qNorm', 'kNorm'),
    'o',
    ...some(biases.attentionOut, 'oBias'),
    ...some(ownMlpNorm, 'mlpNorm'),
    ...some(ownMlpNorm && layerNorm, 'mlpNormBias'),
    ...mlpRoles(spec),
  ]
}

function mlpRoles(spec: ModelSpec): readonly BlockRole[] {
  const { biases, mlp } = spec
  switch (mlp.kind) {
    case 'gated':
      return ['gate', 'up', 'down', ...(biases.mlp ? (['gateBias', 'upBias', 'downBias'] as const) : [])]
    case 'plain':
      return ['up', 'down', ...(biases.mlp ? (['upBias', 'downBias'] as const) : [])]
    case 'moe':
      return [
        'router',
        ...Array.from({ length: mlp.expertCount }, (_, e) => e).flatMap((e): BlockRole[] => [
          `gate.${e}`,
          `up.${e}`,
          `down.${e}`,
        ]),
      ]
  }
}

/** The client's weights of this spec, the head also where it is the embedding. */
export function clientRoles(spec: ModelSpec): readonly ClientRole[] {
  return [
    'embedding',
    ...(spec.embeddingNorm ? (['embeddingNorm', 'embeddingNormBias'] as const) : []),
    'finalNorm',
    ...(spec.norm.kind === 'layer' ? (['finalNormBias'] as const) : []),
    'head',
  ]
}

/** The matrix and, of an expert's role, the expert: `gate.3` is ['gate', 3]. */
export function splitRole(role: BlockRole): readonly [name: BlockRole, expert: number | undefined] {
  const dot = role.indexOf('.')
  return dot < 0 ? [role, undefined] : [role.slice(0, dot) as BlockRole, Number(role.slice(dot + 1))]
}

/** Shape of a block's weight: matrices [out, in], biases and norms [out]. */
export function blockShape(spec: ModelSpec, role: BlockRole): readonly number[] {
  const { headCount, headDim, hiddenSize, intermediateSize, kvHeadCount, mlp } = spec
  const [name] = splitRole(role)
  switch (name) {
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
    case 'qNorm':
    case 'kNorm':
      return [headDim]
    case 'o':
      return [hiddenSize, headCount * headDim]
    case 'router':
      return [mlp.kind === 'moe' ? mlp.expertCount : 0, hiddenSize]
    case 'gate':
    case 'up':
      return [intermediateSize, hiddenSize]
    case 'gateBias':
    case 'upBias':
      return [intermediateSize]
    case 'down':
      return [hiddenSize, intermediateSize]
    default:
      return [hiddenSize]
  }
}

/** Shape of a weight of the client's part. */
export function clientShape(spec: ModelSpec, role: ClientRole): readonly number[] {
  return role === 'embedding' || role === 'head' ? [spec.vocabSize, spec.hiddenSize] : [spec.hiddenSize]
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
