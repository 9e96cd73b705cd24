import { totalmem } from 'node:os'
import { ChoraleError } from '../../../src/errors.ts'
import { checkSpan } from '../../../src/engine/check-span.ts'
import { PAGE_TOKENS } from '../../../src/kv/pages.ts'
import type { Model } from '../../../src/model/model.ts'
import { MAX_RECORDS_PER_PEER } from '../../../src/protocol/limits.ts'
import type { ServerRecord } from '../../../src/routing/snapshot.ts'
import { shareBudget } from '../../../src/server/share-budget.ts'
import type { Span } from '../../../src/session/span-runner.ts'
import { BASE_BYTES, blockBytes, blocksThatFit, DEFAULT_SHARE } from './block-budget.ts'
import { readPerModel } from './per-model.ts'
import { parseBlocks, parseCount } from './values.ts'

/** A model that `chorale serve` is to hold a span of, as the flags say. */
export interface WantedSpan {
  readonly reference: string
  readonly revision: string | undefined
  /** Undefined: those that need a server most. */
  readonly asked: Span | undefined
  readonly kvTokens: number
}

export interface WantedFlags {
  readonly blocks: readonly string[]
  readonly kvTokens: readonly string[]
  readonly revision: readonly string[]
}

/** KV cache of all models together, where nothing is said. */
export const DEFAULT_KV_TOKENS = 8192

/** Reads the flags that may differ from model to model. @throws `bad_config`, `limit`. */
export function readWanted(references: readonly string[], flags: WantedFlags): readonly WantedSpan[] {
  if (references.length > MAX_RECORDS_PER_PEER) {
    throw new ChoraleError(
      'bad_config',
      `${references.length} models: the directory lists one peer for at most ${MAX_RECORDS_PER_PEER}; start another server`,
    )
  }
  const blocks = readPerModel('blocks', flags.blocks, references)
  const common = blocks.common === undefined ? undefined : parseBlocks(blocks.common)
  if (common !== undefined && references.length > 1) {
    throw new ChoraleError(
      'bad_config',
      `--blocks ${blocks.common}: of which model? Write ${references.map((name) => `--blocks ${name}=START:END`).join(' ')}`,
      { field: 'blocks' },
    )
  }
  const revision = readPerModel('revision', flags.revision, references)
  const room = readPerModel('kv-tokens', flags.kvTokens, references)
  const total = room.common === undefined ? DEFAULT_KV_TOKENS : parseCount('kv-tokens', room.common, 1)
  // Whole pages each, so that the parts are no more than the whole.
  const pages = Math.floor(total / references.length / PAGE_TOKENS)
  const share = references.length === 1 ? total : Math.max(1, pages) * PAGE_TOKENS
  return references.map((reference, i) => {
    const span = blocks.named.get(i)
    const tokens = room.named.get(i)
    return {
      reference,
      revision: revision.named.get(i) ?? revision.common,
      asked: span === undefined ? common : parseBlocks(span),
      kvTokens: tokens === undefined ? share : parseCount('kv-tokens', tokens, 1),
    }
  })
}

/** An opened model with what is wanted of it. */
export interface HeldModel extends WantedSpan {
  readonly model: Model
}

/** @throws `bad_request` for blocks that a model has not, `bad_config` for one model under two names. */
export function checkHeld(held: readonly HeldModel[]): void {
  for (const [i, { asked, model, reference }] of held.entries()) {
    if (asked !== undefined) checkSpan(model, asked)
    const twin = held.slice(0, i).find((other) => other.model.id === model.id)
    if (twin === undefined) continue
    throw new ChoraleError(
      'bad_config',
      `${twin.reference} and ${reference} are the same model ${model.id}: a server holds one span of a model`,
      { field: 'model' },
    )
  }
}

/** Bytes that blocks and KV caches of all models may take. */
export function budgetBytes(maxMemory = totalmem() * DEFAULT_SHARE): number {
  return maxMemory - BASE_BYTES
}

/**
 * Most blocks of each model within one budget of memory: chosen spans first, the rest where the network needs it most.
 * @param records who serves each model now. @throws `capacity` when not even one block of each fits.
 */
export function blocksOfEach(
  held: readonly HeldModel[],
  records: readonly (readonly ServerRecord[])[],
  { maxMemory, peerId, now }: { readonly maxMemory?: number; readonly peerId: string; readonly now: number },
): readonly number[] {
  const [only] = held
  if (held.length === 1 && only !== undefined) return [blocksThatFit(only.model, only.kvTokens, maxMemory)]
  const bytes = budgetBytes(maxMemory)
  const wanted = held.map(({ model, kvTokens, asked }, i) => ({
    blockCount: model.spec.blockCount,
    blockBytes: blockBytes(model, kvTokens),
    records: records[i] ?? [],
    ...(asked !== undefined && { fixed: asked }),
  }))
  const counts = shareBudget(wanted, bytes, { peerId, now })
  if (counts !== undefined) return counts
  const need = wanted.reduce(
    (sum, one) => sum + one.blockBytes * (one.fixed ? one.fixed.end - one.fixed.start : 1),
    0,
  )
  throw new ChoraleError(
    'capacity',
    `a block of each model, or those chosen, with their KV caches need ${Math.ceil((BASE_BYTES + need) / 1e6)} MB, allowed are ${Math.floor((bytes + BASE_BYTES) / 1e6)} MB: serve fewer models, raise --max-memory or lower --kv-tokens`,
    { field: 'max-memory' },
  )
}
