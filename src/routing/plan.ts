import { maxFlow } from './max-flow.ts'
import type { BlockRange } from './placement-view.ts'

/** A machine to be given a span: with n blocks it makes power ÷ n tokens per second. */
export interface Machine {
  readonly peerId: string
  /** Most blocks its memory holds. */
  readonly maxBlocks: number
  /** Tokens per second × blocks. */
  readonly power: number
}

export interface Plan {
  /** A span for each machine, in their order. */
  readonly spans: readonly BlockRange[]
  /** Tokens per second through spans that meet. */
  readonly flow: number
  /** No placement of these machines carries more. */
  readonly bound: number
}

/** Steps of one search: keeps a plan for eight machines and 24 blocks within tenths of a second. */
const MAX_STEPS = 100_000
/** Plans are improved until they are proved to be this close to the best. */
const CLOSE = 1.02
const ROUNDING = 1e-9

/**
 * What no placement can exceed: every token needs each block once, so T tokens per second need T × blocks of work, of
 * which a machine gives at most its power, and at most T on each of the blocks that its memory holds. The largest T.
 */
export function flowBound(blockCount: number, machines: readonly Machine[]): number {
  if (machines.reduce((sum, { maxBlocks }) => sum + maxBlocks, 0) < blockCount) return 0
  let low = 0
  let high = machines.reduce((sum, { power }) => sum + power, 0) / blockCount
  const holds = (flow: number): boolean => workFor(machines, flow) >= flow * blockCount * (1 - ROUNDING)
  if (holds(high)) return high
  for (let i = 0; i < 60; i++) {
    const middle = (low + high) / 2
    if (holds(middle)) low = middle
    else high = middle
  }
  return high
}

/** Work that machines can give to a flow. */
function workFor(machines: readonly Machine[], flow: number): number {
  return machines.reduce((sum, { power, maxBlocks }) => sum + Math.min(power, maxBlocks * flow), 0)
}

/**
 * Spans for a few machines that together carry as much as any placement does, to 2 %, or as much as a search of
 * limited length finds: `bound` says which. Branch and bound over boundaries from the first block on, for flows
 * between what was found and what is impossible. Deterministic, so machines that know the same plan the same.
 * Meant for up to eight machines and a few dozen blocks.
 */
export function planSpans(blockCount: number, machines: readonly Machine[], maxSteps = MAX_STEPS): Plan {
  let bound = flowBound(blockCount, machines)
  let least: { flow: number; spans: readonly BlockRange[] } = { flow: 0, spans: [] }
  /** Flows from here on were given up, not excluded. */
  let unclear = bound
  for (let round = 0; round < 20 && unclear > least.flow * CLOSE && unclear > 0; round++) {
    const target = least.flow > 0 ? Math.sqrt(least.flow * unclear) : unclear / 2 ** (round + 1)
    const found = searchPlan(blockCount, machines, target, maxSteps)
    if (found.spans) {
      const flow = flowOf(blockCount, machines, found.spans)
      if (flow > least.flow) least = { flow, spans: found.spans }
      continue
    }
    if (found.complete) bound = Math.min(bound, target)
    if (least.flow > 0 || found.complete) unclear = Math.min(unclear, least.flow > 0 ? target : unclear)
  }
  return { ...least, bound }
}

function flowOf(blockCount: number, machines: readonly Machine[], spans: readonly BlockRange[]): number {
  return maxFlow(
    blockCount,
    spans.map(({ start, end }, i) => ({ start, end, throughput: machines[i]!.power / (end - start) })),
  )
}

/** A placement that carries `target`; without one, whether every placement was excluded. */
function searchPlan(
  blockCount: number,
  machines: readonly Machine[],
  target: number,
  maxSteps: number,
): { readonly spans?: readonly BlockRange[]; readonly complete: boolean } {
  const order = machines.map((_, i) => i).sort((a, b) => machines[b]!.power - machines[a]!.power || a - b)
  const need = target * (1 - ROUNDING)
  const starts = new Int32Array(machines.length).fill(-1)
  const ends = new Int32Array(machines.length)
  const capacity = new Float64Array(blockCount)
  /** Tokens per second that arrive at each boundary. */
  const arriving = new Float64Array(blockCount + 1)
  arriving[0] = Infinity
  let steps = 0

  /** Work missing from a block on, and what the machines left over can give. */
  const isEnough = (from: number): boolean => {
    let missing = 0
    for (let block = from; block < blockCount; block++) missing += Math.max(0, need - capacity[block]!)
    let left = 0
    for (const [i, { power, maxBlocks }] of machines.entries()) {
      if (starts[i] === -1) left += Math.min(power, Math.min(maxBlocks, blockCount - from) * target)
    }
    return left >= missing * (1 - ROUNDING)
  }

  const place = (machine: number, start: number, end: number, sign: 1 | -1): void => {
    const added = (sign * machines[machine]!.power) / (end - start)
    for (let block = start; block < end; block++) capacity[block]! += added
    arriving[end]! += added
    starts[machine] = sign === 1 ? start : -1
    ends[machine] = end
  }

  /** Chooses which machines from `next` on in the order begin at a boundary, then goes on to the next boundary. */
  const choose = (boundary: number, next: number, passing: number): boolean => {
    if (++steps > maxSteps) return false
    if (next === order.length) return goOn(boundary, passing)
    const machine = order[next]!
    if (starts[machine] === -1 && arriving[boundary]! > need * ROUNDING) {
      const { power, maxBlocks } = machines[machine]!
      const most = Math.min(maxBlocks, blockCount - boundary)
      // Shorter spans than that are faster than the flow needs: a longer one would do as well.
      const fewest = Math.max(1, Math.min(most, Math.floor(power / target)))
      for (let length = fewest; length <= most; length++) {
        place(machine, boundary, boundary + length, 1)
        if (isEnough(boundary) && choose(boundary, next + 1, passing)) return true
        place(machine, boundary, boundary + length, -1)
        if (steps > maxSteps) return false
      }
    }
    return choose(boundary, next + 1, passing)
  }

  const goOn = (boundary: number, passing: number): boolean => {
    // All that begins here must have arrived here, and whatever does not begin here passes by.
    if (capacity[boundary]! < need || passing + arriving[boundary]! < need || !isEnough(boundary))
      return false
    let at = boundary + 1
    while (at < blockCount && arriving[at]! <= need * ROUNDING) {
      if (capacity[at]! < need) return false
      at++
    }
    if (at === blockCount) return flowOf(blockCount, machines, spansNow()) >= need
    return choose(at, 0, capacity[at]!)
  }

  const spansNow = (): BlockRange[] =>
    machines.map(({ maxBlocks }, i) =>
      // Whoever is not needed repeats the beginning: it harms nobody.
      starts[i] === -1
        ? { start: 0, end: Math.min(maxBlocks, blockCount) }
        : { start: starts[i]!, end: ends[i]! },
    )

  if (choose(0, 0, 0)) return { spans: spansNow(), complete: true }
  return { complete: steps <= maxSteps }
}
