import type { BlockRange, PlacementView } from './placement-view.ts'

/** The server that decides. */
export interface PlacementSelf {
  readonly peerId: string
  /** Most blocks its memory holds. */
  readonly maxBlocks: number
  /** Tokens per second with a span of so many blocks. */
  readonly speed: (blocks: number) => number
}

/** For `bestSpan` of servers that join: while many do, a span worth half as much is chosen now and then. */
export const JOIN_SPREAD = 0.4
/** Where hardly anybody joins, the spread shrinks to this share: no one else takes the same gap. */
const LEAST_SPREAD = 0.1
/** Share of servers seen joining (those of the last minute are not seen yet) from which on the spread is whole. */
const MANY_JOIN = 0.05
/** For each level of the grid that a boundary lies below the whole model: many share the coarse ones, so chains meet. */
const LEVEL_COST = 0.02
/** Longer spans make fewer hops, and one that leaves is less of each block's capacity. Exponent of the length. */
const LENGTH_GAIN = 0.2
/** Weight of jumps in capacity, in fourth powers a block: where capacity falls, spans end and none takes over. */
const STEP_COST = 4
/** Spans that do harm are still comparable: a server that joins must go somewhere. */
const LEAST_WORTH = 1e-9
/** Equal spans are drawn: twins don't all take the first. */
const TIE = 1e-9
/** Gumbel noise of a number drawn in steps of 2^-32 is never more. */
const MOST_NOISE = 23
/** A block nobody serves counts as if it had this share of the demand: bad beyond any comparison, and still finite. */
const EMPTY_SHARE = 0.01
/** A span that meets no others on one side is of no use until more come. */
const UNLINKED_SHARE = 0.25

/** A span for a server, and what it is worth to the swarm. */
export interface Placement extends BlockRange {
  /** Fall of Σ (demand ÷ capacity)⁴ over its blocks. */
  readonly worth: number
}

/**
 * The span that helps most. Its ends are ends of others wherever that is possible, because spans of a chain must
 * meet: it starts where servers reach from block 0 and ends where they reach the last one; where none do, it carries
 * the covered part on as far as memory goes. `capacity` must not count the server itself. With `spread` (`JOIN_SPREAD` for servers
 * that join) it is drawn among good ones: many that see the same records must not all fill the same gap.
 * O(blocks × memory).
 */
export function bestSpan(
  view: PlacementView,
  self: PlacementSelf,
  {
    capacity = view.capacity,
    spread = 0,
  }: { readonly capacity?: Float64Array; readonly spread?: number } = {},
): Placement {
  const { blockCount } = view
  const most = Math.min(self.maxBlocks, blockCount)
  const worthOf = worthTable(capacity, most, self.speed)
  const levels = gridLevels(blockCount)
  let best: Placement | undefined
  let bestScore = -Infinity
  const joining = view.joining / Math.max(1, view.byPeer.size) / MANY_JOIN
  const noiseShare = Math.max(spread * Math.min(1, LEAST_SPREAD + joining), TIE)
  for (const { start, end, linked } of candidates(view, most)) {
    const worth = worthOf(start, end) * (linked ? 1 : UNLINKED_SHARE)
    const grid = LEVEL_COST * (levels[start]! + levels[end]!)
    const fair = Math.log(Math.max(worth, LEAST_WORTH)) - grid + LENGTH_GAIN * Math.log(end - start)
    // Most are far behind the best, whatever the draw adds.
    if (fair + noiseShare * MOST_NOISE <= bestScore) continue
    // Gumbel noise that depends on peer and span: the largest sum is a draw whose odds grow with the worth.
    const draw = Math.max(rank(self.peerId, start * (view.blockCount + 1) + end), 1e-12)
    const score = fair - noiseShare * Math.log(-Math.log(draw))
    if (score <= bestScore) continue
    best = { start, end, worth }
    bestScore = score
  }
  return best ?? { start: 0, end: most, worth: 0 }
}

/** Spans of at most `most` blocks between boundaries; `linked` ones meet others, or the model's ends, on both sides. */
function* candidates(
  { blockCount, fromStart, toEnd }: PlacementView,
  most: number,
): Generator<BlockRange & { readonly linked: boolean }> {
  for (const start of fromStart) {
    let linked = false
    for (let end = start + 1; end <= Math.min(start + most, blockCount); end++) {
      if (!toEnd.has(end)) continue
      linked = true
      yield { start, end, linked: true }
    }
    if (!linked && start < blockCount) {
      yield { start, end: coarsest(blockCount, start + Math.ceil(most / 2), start + most), linked: false }
    }
  }
  for (const end of toEnd) {
    const start = coarsest(blockCount, end - most, end - Math.ceil(most / 2))
    if (end > 0 && !fromStart.has(start)) yield { start, end, linked: false }
  }
}

/** The boundary of [from, to] that the most servers will choose: the coarsest of the grid. */
function coarsest(blockCount: number, from: number, to: number): number {
  const levels = gridLevels(blockCount)
  let best = Math.max(0, Math.min(blockCount, to))
  for (let at = best; at >= Math.max(0, from); at--) if (levels[at]! < levels[best]!) best = at
  return best
}

/** Models have few distinct block counts. */
const grids = new Map<number, Uint8Array>()

/** For each boundary at which of the halvings of the model it first appears: 0 at its ends, 1 in the middle. */
function gridLevels(blockCount: number): Uint8Array {
  let levels = grids.get(blockCount)
  if (levels) return levels
  levels = new Uint8Array(blockCount + 1).fill(255)
  for (let level = 0, parts = 1; parts < 2 * blockCount; level++, parts *= 2) {
    for (let i = 0; i <= parts; i++) {
      const at = Math.round((i * blockCount) / parts)
      levels[at] = Math.min(levels[at]!, level)
    }
  }
  grids.set(blockCount, levels)
  return levels
}

/** Mean tokens per second of a block; 1 in an empty swarm. */
export function demandOf(capacity: Float64Array): number {
  return capacity.reduce((sum, value) => sum + value, 0) / capacity.length || 1
}

/** What spans of up to `most` blocks are worth, from sums over all blocks for each length: a length has one speed. */
export function worthTable(
  capacity: Float64Array,
  most: number,
  speed: (blocks: number) => number,
): (start: number, end: number) => number {
  const demand = demandOf(capacity)
  const least = EMPTY_SHARE * demand
  const need = capacity.map((value) => fourth(demand / Math.max(value, least)))
  const sums: (Float64Array | undefined)[] = Array.from({ length: most + 1 })
  return (start, end) => {
    const length = end - start
    let sum = sums[length]
    const added = speed(length)
    if (!sum) {
      sum = new Float64Array(capacity.length + 1)
      for (const [block, value] of capacity.entries()) {
        const left = fourth(demand / (Math.max(value, least) + added))
        sum[block + 1] = sum[block]! + need[block]! - left
      }
      sums[length] = sum
    }
    return sum[end]! - sum[start]! - (STEP_COST * stepsAdded(capacity, start, end, added)) / demand
  }
}

/** How much more the capacity jumps at the boundaries when a span is added: what ends there and what begins don't match. */
function stepsAdded(capacity: Float64Array, start: number, end: number, added: number): number {
  let steps = 0
  if (start > 0) {
    const step = capacity[start]! - capacity[start - 1]!
    steps += Math.abs(step + added) - Math.abs(step)
  }
  if (end < capacity.length) {
    const step = capacity[end]! - capacity[end - 1]!
    steps += Math.abs(step - added) - Math.abs(step)
  }
  return steps
}

function fourth(value: number): number {
  return value * value * value * value
}

/** A number in [0, 1) that everybody computes alike: FNV-1a of the peer id and a number, then a finaliser. */
export function rank(peerId: string, epoch: number): number {
  let hash = (0x811c9dc5 ^ Math.imul(epoch + 1, 0x9e3779b1)) >>> 0
  for (let i = 0; i < peerId.length; i++) hash = Math.imul(hash ^ peerId.charCodeAt(i), 0x01000193) >>> 0
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b) >>> 0
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35) >>> 0
  return ((hash ^ (hash >>> 16)) >>> 0) / 2 ** 32
}
