import { rank } from './best-span.ts'
import { maxFlow } from './max-flow.ts'
import type { BlockRange } from './placement-view.ts'
import { flowBound, type Machine, type Plan } from './plan.ts'
import { type Carrying, createSwarmCost } from './swarm-cost.ts'

/** A machine that serves a span already. */
export interface PlacedMachine extends Machine {
  readonly span: BlockRange
  /** It can't move now: the plan goes round it. */
  readonly fixed: boolean
}

/** Attempts to leave what no single move improves. A few dozen come to 0.9 of the bound for 9 to 24 machines. */
const KICKS = 60
/** Machines that one attempt puts elsewhere at most; then all follow, one by one. */
const MOST_KICKED = 4
/** Moves after a kick. */
const MOST_MOVES = 24
/** Share of the cost that a move within an attempt must save. */
const LEAST_SAVING = 0.01
/** Flow that an attempt must add: a plan that differs little is no better when moving costs. */
const LEAST_GAIN = 1.01

/**
 * A good placement for machines that serve already, found by local search: from the present one, and then from the best
 * one with a few machines put elsewhere, the move that levels the most, until none does. Nothing is proved; deterministic,
 * so machines that know the same plan the same. For some ten to twenty machines and up to a hundred blocks.
 */
export function kickedPlan(blockCount: number, machines: readonly PlacedMachine[], kicks = KICKS): Plan {
  const bound = flowBound(blockCount, machines)
  const demand = bound || machines.reduce((sum, { power }) => sum + power, 0) / blockCount
  const flowOf = (spans: readonly BlockRange[]): number =>
    maxFlow(
      blockCount,
      spans.map((span, i) => carry(machines[i]!, span)),
    )
  const climb = (spans: BlockRange[]): BlockRange[] => {
    const cost = createSwarmCost(blockCount, demand)
    for (const [i, span] of spans.entries()) cost.add(carry(machines[i]!, span))
    for (let moves = 0; moves < MOST_MOVES; moves++) {
      let best: { readonly machine: number; readonly span: Carrying; readonly cost: number } | undefined
      const enough = (1 - LEAST_SAVING) * cost.total()
      for (const [i, machine] of machines.entries()) {
        if (machine.fixed) continue
        const now = carry(machine, spans[i]!)
        cost.add(now, -1)
        const [found] = cost.best(machine, 1)
        cost.add(now)
        if (found && found.cost < (best?.cost ?? enough)) best = { machine: i, span: found, cost: found.cost }
      }
      if (!best) break
      cost.add(carry(machines[best.machine]!, spans[best.machine]!), -1)
      cost.add(best.span)
      spans[best.machine] = { start: best.span.start, end: best.span.end }
    }
    return spans
  }
  const movable = machines.flatMap(({ fixed }, i) => (fixed ? [] : [i]))
  let spans: readonly BlockRange[] = machines.map(({ span }) => span)
  let flow = flowOf(spans)
  let draws = 0
  const draw = (below: number): number => Math.floor(rank('kick', draws++) * below)
  for (let kick = 0; kick <= kicks && movable.length > 0 && flow * LEAST_GAIN < bound; kick++) {
    const tried = [...spans]
    const count = kick === 0 ? 0 : 1 + draw(Math.min(MOST_KICKED, movable.length))
    for (let i = 0; i < count; i++) {
      const machine = movable[draw(movable.length)]!
      const length = Math.min(machines[machine]!.maxBlocks, blockCount)
      const start = draw(blockCount - length + 1)
      tried[machine] = { start, end: start + length }
    }
    const found = climb(tried)
    const carried = flowOf(found)
    if (carried <= LEAST_GAIN * flow) continue
    spans = found
    flow = carried
  }
  return { spans, flow, bound }
}

function carry({ power }: Machine, { start, end }: BlockRange): Carrying {
  return { start, end, throughput: power / (end - start) }
}
