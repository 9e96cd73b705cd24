import type { BlockRange } from './placement-view.ts'

/** A span with what it carries. */
export interface Carrying extends BlockRange {
  /** Tokens per second. */
  readonly throughput: number
}

/** Who looks for a span: with n blocks it makes power ÷ n tokens per second. */
export interface Mover {
  /** Most blocks its memory holds. */
  readonly maxBlocks: number
  /** Tokens per second × blocks. */
  readonly power: number
}

/** What a placement costs, kept up to date change by change. */
export interface SwarmCost {
  /** Adds a span, or with -1 takes it out. O(span length). */
  add(span: Carrying, sign?: 1 | -1): void
  /** Σ (demand ÷ what passes)⁶ over blocks and the boundaries between them, and jumps of capacity ÷ demand. O(blocks). */
  total(): number
  /** What the total would be with the span added. O(blocks). */
  with(span: Carrying): number
  /** The spans that leave the least totals, best first, and those totals. O(blocks × memory). */
  best(mover: Mover, count: number): (Carrying & { readonly cost: number })[]
}

/** What passes counts for at least this share of the demand: bad beyond comparison, and still finite. */
const LEAST_SHARE = 0.03
/** Weight of a block beside a boundary: what passes a boundary passes the blocks on both sides of it. */
const BLOCK_WEIGHT = 0.3
/** Weight of jumps in capacity: what ends at a boundary where less begins is lost on all the way there. */
const JUMP_WEIGHT = 4
/** Spans shorter than this share of the memory leave a crowd of hops and hardly ever level anything better. */
const LEAST_MEMORY = 0.5

/**
 * How far a swarm is from carrying `demand` tokens per second everywhere: through its blocks, and through the
 * boundaries between them, where a span that ends helps only as much as others begin. The sixth power makes the
 * narrowest places count most, and is smooth: the maximum flow, which is what is wanted, says of most moves nothing.
 * @param demand tokens per second, more than 0.
 */
export function createSwarmCost(blockCount: number, demand: number): SwarmCost {
  /** Tokens per second of each block, and of the spans that begin or end at each boundary. */
  const capacity = new Float64Array(blockCount)
  const begins = new Float64Array(blockCount + 1)
  const ends = new Float64Array(blockCount + 1)
  const least = LEAST_SHARE * demand

  const price = (passes: number): number => {
    const ratio = demand / Math.max(passes, least)
    const square = ratio * ratio
    return square * square * square
  }
  const passes = (at: number): number => capacity[at]! - begins[at]! + Math.min(begins[at]!, ends[at]!)
  /** How the price of a boundary changes when a span begins or ends there. */
  const edge = (at: number, begin: number, end: number): number => {
    if (at === 0 || at === blockCount) return 0
    const before = begins[at]! - ends[at]!
    const through = capacity[at]! - begins[at]! + Math.min(begins[at]! + begin, ends[at]! + end)
    const jump = Math.abs(before + begin - end) - Math.abs(before)
    return price(through) - price(passes(at)) + (JUMP_WEIGHT * jump) / demand
  }
  const total = (): number => {
    let sum = 0
    for (let at = 0; at < blockCount; at++) {
      sum += BLOCK_WEIGHT * price(capacity[at]!)
      if (at > 0) sum += price(passes(at)) + (JUMP_WEIGHT * Math.abs(begins[at]! - ends[at]!)) / demand
    }
    return sum
  }
  return {
    add: ({ start, end, throughput }, sign = 1) => {
      const added = sign * throughput
      for (let block = start; block < end; block++) capacity[block]! += added
      begins[start]! += added
      ends[end]! += added
    },
    total,
    with: ({ start, end, throughput }) => {
      let sum = total() + edge(start, throughput, 0) + edge(end, 0, throughput)
      for (let at = start; at < end; at++) {
        sum += BLOCK_WEIGHT * (price(capacity[at]! + throughput) - price(capacity[at]!))
        if (at > start) sum += price(passes(at) + throughput) - price(passes(at))
      }
      return sum
    },
    best: ({ maxBlocks, power }, count) => {
      const most = Math.max(1, Math.min(maxBlocks, blockCount))
      const now = total()
      const best: (Carrying & { readonly cost: number })[] = []
      let worst = Infinity
      const through = capacity.map((_, at) => passes(at))
      const blockPrice = capacity.map((value) => price(value))
      const throughPrice = through.map((value) => price(value))
      /** Sums of what a span of one length changes: of the blocks before `at`, and of boundaries up to `at`. */
      const blocks = new Float64Array(blockCount + 1)
      const inside = new Float64Array(blockCount + 1)
      for (let length = Math.ceil(LEAST_MEMORY * most); length <= most; length++) {
        const added = power / length
        for (let at = 0; at < blockCount; at++) {
          blocks[at + 1] = blocks[at]! + BLOCK_WEIGHT * (price(capacity[at]! + added) - blockPrice[at]!)
          if (at > 0) inside[at] = inside[at - 1]! + price(through[at]! + added) - throughPrice[at]!
        }
        for (let start = 0; start + length <= blockCount; start++) {
          const end = start + length
          const change = blocks[end]! - blocks[start]! + inside[end - 1]! - inside[start]!
          const cost = now + change + edge(start, added, 0) + edge(end, 0, added)
          if (cost >= worst) continue
          let place = best.length
          while (place > 0 && best[place - 1]!.cost > cost) place--
          best.splice(place, 0, { start, end, throughput: added, cost })
          if (best.length > count) best.pop()
          if (best.length === count) worst = best.at(-1)?.cost ?? worst
        }
      }
      return best
    },
  }
}
