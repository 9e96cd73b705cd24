import { ChoraleError } from '../errors.ts'
import type { TensorName, TensorNames } from './family.ts'
import { partOf, type RowRange } from './fused.ts'
import type { BlockRole, ClientRole, ModelWeights, WeightTensor } from './model.ts'
import type { ModelSpec } from './spec.ts'
import {
  readRows,
  readRowsRange,
  readWeight,
  type StoredTensor,
  type TensorTable,
  weightInfo,
} from './tensor-table.ts'

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
  /** Where a transform moves rows of a role: the row before of each row after. Undefined: it leaves the role alone. */
  readonly sourceRow?: (role: BlockRole) => ((row: number) => number) | undefined
}): ModelWeights {
  const { modelName, names, spec, table } = options
  const transform = options.transform ?? ((_role, weight) => weight)
  const prefetched = new Set<number>()

  const find = (role: string, variants: readonly TensorName[], expert: number, block?: number) => {
    const names = variants.map((variant) =>
      (typeof variant === 'string' ? variant : variant.name)
        .replace('{i}', String(block))
        .replace('{e}', String(expert)),
    )
    const index = names.findIndex((name) => table.has(name))
    const stored = table.get(names[index] ?? '')
    const variant = variants[index]
    if (stored !== undefined && variant !== undefined) return { stored, variant }
    const name = names[0] ?? role
    throw new ChoraleError('not_found', `${modelName}: no tensor ${name}`, { field: name })
  }
  const blockTensor = (block: number, role: BlockRole): Located => {
    if (!Number.isInteger(block) || block < 0 || block >= spec.blockCount) {
      throw new ChoraleError('bad_request', `block ${block} outside ${modelName}'s ${spec.blockCount} blocks`)
    }
    const [name, expert = 0] = splitRole(role)
    const shape = blockShape(spec, role)
    const { stored, variant } = find(role, names.block[name] ?? [], expert, block)
    if (typeof variant === 'string') return { stored: checkShape(modelName, stored, shape), shape }
    const part = partOf(spec, variant.part, name, expert, shape)
    return { stored: checkShape(modelName, stored, part.stored), shape, rows: part.rows }
  }
  const clientTensor = (role: ClientRole): Located => {
    // Of a tied pair a file may hold either one, or both.
    const variants =
      spec.tiedHead && (role === 'head' || role === 'embedding')
        ? [...(names.client.embedding ?? []), ...(names.client.head ?? [])]
        : (names.client[role] ?? [])
    const shape = clientShape(spec, role)
    return { stored: checkShape(modelName, find(role, variants, 0).stored, shape), shape }
  }
  const read = async ({ rows, shape, stored }: Located, signal: AbortSignal | undefined) =>
    rows === undefined ? await readWeight(stored, signal) : await readRows(stored, rows, shape, signal)
  const readRange = async (
    { rows, shape, stored }: Located,
    offset: number,
    length: number,
    sourceRow: ((row: number) => number) | undefined,
    signal: AbortSignal | undefined,
  ) =>
    rows === undefined && sourceRow === undefined
      ? await stored.source.read(stored.offset + offset, length, signal)
      : await readRowsRange(stored, { shape, rows, sourceRow }, offset, length, signal)
  const info = ({ shape, stored }: Located) => ({ ...weightInfo(stored), shape })
  const prefetchBlock = async (block: number, signal: AbortSignal | undefined) => {
    if (prefetched.has(block)) return
    prefetched.add(block)
    const bySource = new Map<StoredTensor['source'], Set<StoredTensor>>()
    for (const role of blockRoles(spec)) {
      const { stored } = blockTensor(block, role)
      if (stored.source.prefetch === undefined) continue
      bySource.set(stored.source, (bySource.get(stored.source) ?? new Set()).add(stored))
    }
    try {
      for (const [source, tensors] of bySource) {
        await source.prefetch?.(
          [...tensors].map(({ byteLength, offset }) => ({ offset, length: byteLength })),
          signal,
        )
      }
    } catch (error) {
      prefetched.delete(block)
      throw error
    }
  }

  return {
    blockInfo: (block, role) => info(blockTensor(block, role)),
    block: async (block, role, signal) => {
      const located = blockTensor(block, role)
      await prefetchBlock(block, signal)
      return transform(role, await read(located, signal))
    },
    clientInfo: (role) => info(clientTensor(role)),
    client: async (role, signal) => transform(role, await read(clientTensor(role), signal)),
    blockRange: async (block, role, offset, length, signal) =>
      await readRange(blockTensor(block, role), offset, length, options.sourceRow?.(role), signal),
    clientRange: async (role, offset, length, signal) =>
      await readRange(clientTensor(role), offset, length, undefined, signal),
  }
}

/** A role's weight in a table: a whole tensor, or some rows of one. */
interface Located {
  readonly stored: StoredTensor
  readonly shape: readonly number[]
  readonly rows?: readonly RowRange[]
}

/** The spec of files that say their head is tied and hold one all the same: theirs counts, as in transformers. */
export function withStoredHead(spec: ModelSpec, names: TensorNames, table: TensorTable): ModelSpec {
  const has = (role: 'embedding' | 'head') => (names.client[role] ?? []).some((name) => table.has(name))
  return spec.tiedHead && has('head') && has('embedding') ? { ...spec, tiedHead: false } : spec
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
