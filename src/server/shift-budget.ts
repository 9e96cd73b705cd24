import { placedServers, type PlacementView, rank, viewPlacement } from '../routing/placement.ts'
import { coverModel } from '../routing/model-coverage.ts'
import type { ServerRecord } from '../routing/snapshot.ts'
import type { Span } from '../session/span-runner.ts'
import { joiningSpan } from './placement-loop.ts'

/** A model that a server holds a span of, one of several. */
export interface HeldShare {
  readonly blockCount: number
  /** Memory of one block with its part of the KV cache. */
  readonly blockBytes: number
  /** Its part of the budget. */
  readonly maxBlocks: number
  readonly span: Span
  /** Whether somebody chose the span: it stays. */
  readonly fixed: boolean
  /** All its servers, this one too. */
  readonly records: readonly ServerRecord[]
}

/** One model gives up blocks that others serve, another one takes blocks that nobody serves. */
export interface BudgetShift {
  /** Index of the model that gives; undefined where unused memory is enough. */
  readonly from: { readonly model: number; readonly keep: Span } | undefined
  readonly to: { readonly model: number; readonly span: Span; readonly maxBlocks: number }
}

/** Other servers that every block given up must have. */
const MIN_OTHERS = 2

/**
 * Whether memory should go from one model to another, because blocks of that one have no server at all. What is given up
 * has two other servers a block, only the server that ranks first among them gives it up in one `period`, and neither
 * model loses a block or its last chain. Pure.
 * @param bytes the budget of all models together.
 */
export function decideShift(
  shares: readonly HeldShare[],
  bytes: number,
  self: { readonly peerId: string; readonly now: number; readonly period: number },
): BudgetShift | undefined {
  const used = shares.reduce((sum, { blockBytes, maxBlocks }) => sum + blockBytes * maxBlocks, 0)
  for (const model of byNeed(shares, self.now)) {
    const receiver = shares[model]!
    const gaps = missingOf(receiver, self.now)
    const most = Math.min(gaps, receiver.blockCount - receiver.maxBlocks)
    for (let more = most; more > 0; more--) {
      const maxBlocks = receiver.maxBlocks + more
      const span = grownSpan(receiver, maxBlocks, self)
      if (span === undefined) continue
      const lacking = more * receiver.blockBytes - (bytes - used)
      if (lacking <= 0) return { from: undefined, to: { model, span, maxBlocks } }
      const from = findGift(shares, model, lacking, self)
      if (from) return { from, to: { model, span, maxBlocks } }
    }
  }
  return undefined
}

/** Indices of models with blocks that nobody serves, the worst first. */
function byNeed(shares: readonly HeldShare[], now: number): readonly number[] {
  const missing = shares.map((share) => (share.fixed ? 0 : missingOf(share, now)))
  return missing
    .flatMap((count, i) => (count > 0 ? [i] : []))
    .sort((a, b) => missing[b]! - missing[a]! || a - b)
}

function missingOf({ blockCount, records }: HeldShare, now: number): number {
  const serving = placedServers(blockCount, records, now).map((server) => ({
    ...server,
    state: 'online' as const,
  }))
  return coverModel(blockCount, serving).missing.reduce((sum, { start, end }) => sum + end - start, 0)
}

/** Where the receiver goes with more blocks: where placement says, else further to one side; undefined when nothing helps. */
function grownSpan(share: HeldShare, maxBlocks: number, { peerId, now }: Self): Span | undefined {
  const { blockCount, records, span } = share
  const others = records.filter((record) => record.peerId !== peerId)
  const before = viewWith(share, span, peerId, now)
  const start = Math.max(0, span.end - maxBlocks)
  const candidates = [
    joiningSpan(blockCount, others, { peerId, maxBlocks, now }),
    { start: span.start, end: Math.min(blockCount, span.start + maxBlocks) },
    { start, end: Math.min(blockCount, start + maxBlocks) },
  ]
  return candidates.find((candidate) => {
    const after = viewWith(share, candidate, peerId, now)
    const loses = after.replicas.some((count, block) => count === 0 && before.replicas[block]! > 0)
    return !loses && emptyBlocks(after) < emptyBlocks(before) && (!isChained(before) || isChained(after))
  })
}

/** The smallest part of a span that frees `lacking` bytes and that others serve. */
function findGift(
  shares: readonly HeldShare[],
  receiver: number,
  lacking: number,
  self: Self & { readonly period: number },
): NonNullable<BudgetShift['from']> | undefined {
  for (const [model, share] of shares.entries()) {
    const { blockBytes, fixed, maxBlocks, span } = share
    // What memory of its own part it does not use counts first.
    const unused = maxBlocks - (span.end - span.start)
    const give = Math.max(0, Math.ceil(lacking / blockBytes) - unused)
    if (model === receiver || fixed || give >= span.end - span.start) continue
    for (const keep of [
      { start: span.start + give, end: span.end },
      { start: span.start, end: span.end - give },
    ]) {
      if (canGive(share, keep, self)) return { model, keep }
    }
  }
  return undefined
}

function canGive(share: HeldShare, keep: Span, { peerId, now, period }: Self & { period: number }): boolean {
  const { blockCount, records, span } = share
  const others = placedServers(blockCount, records, now).filter((one) => one.peerId !== peerId)
  const stays = (block: number): boolean => keep.start <= block && block < keep.end
  for (let block = span.start; block < span.end; block++) {
    if (stays(block)) continue
    const here = others.filter(
      ({ start, end, intent, joining }) => start <= block && block < end && !intent && !joining,
    )
    const own = rank(peerId, period)
    if (here.length < MIN_OTHERS || here.some((one) => rank(one.peerId, period) < own)) return false
  }
  return !isChained(viewWith(share, span, peerId, now)) || isChained(viewWith(share, keep, peerId, now))
}

interface Self {
  readonly peerId: string
  readonly now: number
}

function viewWith(share: HeldShare, span: Span, peerId: string, now: number): PlacementView {
  const others = placedServers(share.blockCount, share.records, now).filter((one) => one.peerId !== peerId)
  return viewPlacement(share.blockCount, [...others, { peerId, ...span, throughput: 1 }])
}

function emptyBlocks({ replicas }: PlacementView): number {
  return replicas.filter((count) => count === 0).length
}

/** Whether spans lead from the first block to the last. */
function isChained({ blockCount, fromStart }: PlacementView): boolean {
  return fromStart.has(blockCount)
}
