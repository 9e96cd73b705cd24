import { coverModel } from '../routing/model-coverage.ts'
import type { ServerRecord } from '../routing/snapshot.ts'
import type { Span } from '../session/span-runner.ts'
import { joiningSpan } from './placement-loop.ts'

/** A model that a server is to hold a span of. */
export interface WantedModel {
  readonly blockCount: number
  /** Memory of one block with its part of the KV cache. */
  readonly blockBytes: number
  /** Who serves it now. */
  readonly records: readonly ServerRecord[]
  /** The blocks to serve, where somebody chose them. */
  readonly fixed?: Span
}

/** How badly a model needs one more block, most important first; less is worse served. */
type Need = readonly number[]

/**
 * Splits one budget of memory between models: most blocks of each. Chosen spans are taken off first; each other model gets
 * a block, and every further one goes to the model whose weakest block is then worst served – of equals the one with more
 * such blocks, then with more sessions, then with less of the budget. Pure.
 * @param bytes for all of them. @returns one count a model; undefined when there is not a block's room for each.
 */
export function shareBudget(
  models: readonly WantedModel[],
  bytes: number,
  self: { readonly peerId: string; readonly now: number },
): readonly number[] | undefined {
  const counts = models.map(({ fixed }) => (fixed === undefined ? 1 : fixed.end - fixed.start))
  const used = models.reduce((sum, { blockBytes }, i) => sum + blockBytes * counts[i]!, 0)
  if (used > bytes && models.some(({ fixed }) => fixed === undefined)) return undefined
  let left = bytes - used
  const needs = models.map((model, i) => needOf(model, counts[i]!, self))
  for (;;) {
    let worst: number | undefined
    for (const [i, { blockBytes, blockCount, fixed }] of models.entries()) {
      if (fixed !== undefined || counts[i]! >= blockCount || blockBytes > left) continue
      if (worst === undefined || isLess(needs[i]!, needs[worst]!)) worst = i
    }
    if (worst === undefined) return counts
    const model = models[worst]!
    counts[worst]!++
    left -= model.blockBytes
    needs[worst] = needOf(model, counts[worst]!, self)
  }
}

/** How a model is served when this server takes the `maxBlocks` blocks that placement would give it. */
function needOf(
  { blockCount, records, fixed }: WantedModel,
  maxBlocks: number,
  { peerId, now }: { readonly peerId: string; readonly now: number },
): Need {
  if (fixed !== undefined) return []
  const others = records.filter((record) => record.peerId !== peerId && record.expiresAt > now)
  const span = joiningSpan(blockCount, others, { peerId, maxBlocks, now })
  const present = others.map(({ start, end, state }) => ({
    start,
    end,
    // Who is loading will serve soon: two servers must not both fill its gap.
    state: state === 'joining' ? ('online' as const) : state,
  }))
  const { perBlock, weakest } = coverModel(blockCount, [...present, { ...span, state: 'online' }])
  const least = weakest?.servers ?? 0
  const weak = perBlock.filter((count) => count === least).length
  const sessions = others.reduce((sum, record) => sum + record.sessions, 0)
  return [least, -weak / blockCount, -sessions, maxBlocks / blockCount]
}

function isLess(a: Need, b: Need): boolean {
  for (const [i, value] of a.entries()) if (value !== b[i]) return value < b[i]!
  return false
}
