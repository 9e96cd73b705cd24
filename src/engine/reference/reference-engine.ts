import type { Model } from '../../model/model.ts'
import { kvBytesPerToken, type ModelSpec } from '../../model/spec.ts'
import { createKvRows, eachKvPart, type KvRange, type KvRows } from '../../kv/kv-rows.ts'
import { advanceTo, PAGE_TOKENS, PagePool, type PagedLease, reserveTo } from '../../kv/pages.ts'
import { dequantize } from '../../tensor/quant.ts'
import { tensor, type Tensor } from '../../tensor/tensor.ts'
import { checkEntries } from '../check-entries.ts'
import { checkSpan } from '../check-span.ts'
import type { Engine, EngineHead, EngineSpan, KvLease, LoadOptions, LoadSpanOptions } from '../engine.ts'
import { type BlockCache, cacheRow } from './attention.ts'
import { loadBlock, runBlock, type BlockWeights } from './block.ts'
import { linear } from './math.ts'
import { normalize } from './norm.ts'
import { type ActivationRounding, markRounded, roundsActivations } from './rounded-activations.ts'

export interface ReferenceEngineOptions {
  /**
   * Rounds activations in groups of 32 before they meet a quantised weight, as the wasm engine does: its oracle.
   * Default: exact.
   */
  activations?: 'exact' | ActivationRounding
}

/** The plain TypeScript engine: slow, and the oracle that every other engine is tested against. */
export function createReferenceEngine(options: ReferenceEngineOptions = {}): Engine {
  const rounding = options.activations === 'exact' ? undefined : options.activations
  return {
    name: 'reference',
    description: `plain TypeScript, float32 with float64 sums, ${rounding === undefined ? '' : `${rounding} activations for quantised weights, `}1 thread`,
    threads: 1,
    loadSpan: (model, spanOptions) => loadSpan(model, spanOptions, rounding),
    loadHead: (model, headOptions) => loadHead(model, headOptions, rounding),
    close: async () => undefined,
  }
}

async function loadSpan(
  model: Model,
  options: LoadSpanOptions,
  rounding: ActivationRounding | undefined,
): Promise<EngineSpan> {
  const { spec } = model
  checkSpan(model, options)
  const pool = new PagePool(options.kvTokens)
  const blocks: BlockWeights[] = []
  for (let block = options.start; block < options.end; block++) {
    blocks.push(await loadBlock(model, block, rounding, options.signal))
    const loaded = weightBytes(blocks)
    options.onProgress?.(loaded, Math.round((loaded / blocks.length) * (options.end - options.start)))
  }
  const kvWidth = spec.kvHeadCount * spec.headDim
  const caches: BlockCache[] = blocks.map(() => ({
    keys: new Float32Array(pool.tokens * kvWidth),
    values: new Float32Array(pool.tokens * kvWidth),
  }))
  const leases = new WeakMap<KvLease, PagedLease>()
  return {
    start: options.start,
    end: options.end,
    weightBytes: weightBytes(blocks),
    kvBytes: pool.tokens * kvBytesPerToken(spec, blocks.length),
    kvTokens: pool.tokens,
    get kvTokensFree() {
      return pool.freeTokens
    },
    lease(maxTokens) {
      const lease = pool.lease(maxTokens)
      leases.set(lease, lease)
      return lease
    },
    sharedPages: pool.share((from, to) => {
      const size = PAGE_TOKENS * kvWidth
      for (const { keys, values } of caches) {
        keys.copyWithin(to * size, from * size, (from + 1) * size)
        values.copyWithin(to * size, from * size, (from + 1) * size)
      }
    }),
    kvRows: kvRowsOf(options, kvWidth, caches, leases),
    async step(entries) {
      const checked = checkEntries(spec.hiddenSize, leases, entries)
      for (const { lease, hidden } of checked) lease.reserve(hidden.shape[0])
      return checked.map(({ lease, hidden }) => runEntry(spec, options.start, blocks, caches, lease, hidden))
    },
    async close() {
      blocks.length = 0
      caches.length = 0
    },
  }
}

function kvRowsOf(
  span: { readonly start: number; readonly end: number },
  width: number,
  caches: readonly BlockCache[],
  leases: WeakMap<KvLease, PagedLease>,
): KvRows {
  const { start, end } = span
  const eachRow = (
    lease: PagedLease,
    range: KvRange,
    copy: (cache: Float32Array, row: number, at: number) => void,
  ): void =>
    eachKvPart(range, width, (block, part, at) => {
      const { keys, values } = caches[block - start] as BlockCache
      for (let token = range.from; token < range.to; token++) {
        copy(part === 0 ? keys : values, cacheRow(lease, token) * width, at + (token - range.from) * width)
      }
    })
  return createKvRows({
    precision: 'f32',
    width,
    start,
    end,
    leases,
    reserve: reserveTo,
    advance: advanceTo,
    read: (lease, range, rows) =>
      eachRow(lease, range, (cache, row, at) => rows.set(cache.subarray(row, row + width), at)),
    write: (lease, range, rows) =>
      eachRow(lease, range, (cache, row, at) => cache.set(rows.subarray(at, at + width), row)),
  })
}

function runEntry(
  spec: ModelSpec,
  start: number,
  blocks: readonly BlockWeights[],
  caches: readonly BlockCache[],
  lease: PagedLease,
  hidden: Tensor,
): Tensor {
  const [tokens, columns] = hidden.shape
  const data = hidden.data.slice()
  blocks.forEach((weights, index) =>
    runBlock(spec, start + index, weights, caches[index] as BlockCache, lease, data, tokens),
  )
  lease.advance(tokens)
  return tensor(tokens, columns, data)
}

function weightBytes(blocks: readonly BlockWeights[]): number {
  return blocks.flatMap((block) => [...block.values()]).reduce((sum, array) => sum + array.byteLength, 0)
}

async function loadHead(
  model: Model,
  options: LoadOptions = {},
  rounding?: ActivationRounding,
): Promise<EngineHead> {
  const { spec } = model
  const normWeight = dequantize(await model.weights.client('finalNorm', options.signal))
  const normBias =
    spec.norm.kind === 'layer'
      ? dequantize(await model.weights.client('finalNormBias', options.signal))
      : undefined
  const storedHead = await model.weights.client('head', options.signal)
  const headWeight = dequantize(storedHead)
  if (rounding !== undefined && roundsActivations(storedHead.dtype)) markRounded(headWeight, rounding)
  const norm = (hidden: Tensor) => normalize(spec.norm, hidden.data, hidden.shape[0], normWeight, normBias)
  return {
    weightBytes: normWeight.byteLength + headWeight.byteLength,
    async finalNorm(hidden) {
      return tensor(hidden.shape[0], spec.hiddenSize, norm(hidden))
    },
    async logits(hidden) {
      const rows = hidden.shape[0]
      return tensor(
        rows,
        spec.vocabSize,
        linear(norm(hidden), rows, headWeight, spec.hiddenSize, spec.vocabSize),
      )
    },
    close: async () => undefined,
  }
}
