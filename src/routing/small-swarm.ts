import { kickedPlan } from './kicked-plan.ts'
import { maxFlow } from './max-flow.ts'
import type { BlockRange, PlacedServer, PlacementView } from './placement-view.ts'
import { type Plan, planSpans } from './plan.ts'
import type { MoveDecision, MoveOptions } from './placement.ts'

/**
 * A few servers hardly ever find a good placement one by one: no block has replicas to spare, so nobody may leave. But
 * a few servers can all compute the best placement of all of them. They announce it, and when everybody who has to
 * move has, they move together.
 */

/** Servers that plan together; with more, some join or leave before all who must move are free to. */
export const MAX_PLANNED = 16
/** Servers whose best placement is searched for and proved; more, or with some that dwell, plan by local search. */
const MAX_PROVED = 8
/** Blocks of a model that is planned. */
const MAX_BLOCKS = 128
/** Throughput that a plan must add: moving pauses the chain for as long as the spans load. */
const LEAST_PLAN_GAIN = 1.05
/** Announced spans are good enough at this share of the latest plan: speeds measured anew change it a little. */
const SAME_PLAN = 0.98

/**
 * What a server of a small swarm should do; undefined: the swarm is too large, or a server does not say how many blocks
 * it holds, and the rules for many apply. Where memory does not hold the old and the new span, the chain pauses while
 * the servers load; that it gains 5 % pays for half a minute of pause in the ten that servers dwell.
 */
export function agreedMove(
  view: PlacementView,
  me: PlacedServer,
  intent: { readonly span: BlockRange; readonly at: number } | undefined,
  { now, publishMs }: MoveOptions,
): MoveDecision | undefined {
  const planned = planOf(view, now)
  if (!planned) return undefined
  const { plan, servers, announced } = planned
  const target = plan.spans[servers.findIndex(({ peerId }) => peerId === me.peerId)]
  if (!target || plan.flow < LEAST_PLAN_GAIN * planned.flow) return { kind: 'stay', reason: 'balanced' }
  if (me.intent && intent && announced >= SAME_PLAN * plan.flow) {
    const waited = now - intent.at >= 2 * publishMs
    return { kind: waited ? 'move' : 'intend', span: intent.span }
  }
  if (target.start === me.start && target.end === me.end) return { kind: 'stay', reason: 'needed' }
  return { kind: 'intend', span: target }
}

interface PlannedSwarm {
  readonly version: number
  readonly planKey: string
  readonly servers: readonly PlacedServer[]
  readonly plan: Plan
  /** Tokens per second of the swarm as it is, and as it will be when everybody has done what it announced. */
  readonly flow: number
  readonly announced: number
}

/** The plan for the latest state of each view. */
const plans = new WeakMap<PlacementView, PlannedSwarm>()

function planOf(view: PlacementView, now: number): PlannedSwarm | undefined {
  const { blockCount, byPeer, version } = view
  if (byPeer.size < 2 || byPeer.size > MAX_PLANNED || blockCount > MAX_BLOCKS) return undefined
  // In one order for everybody, or equal machines would be told apart differently.
  const servers = [...byPeer.values()].sort((a, b) => (a.peerId < b.peerId ? -1 : 1))
  const machines = servers.flatMap(({ peerId, maxBlocks, start, end, throughput, joining, staysUntil = 0 }) =>
    maxBlocks === undefined
      ? []
      : [
          {
            peerId,
            maxBlocks: Math.max(maxBlocks, end - start),
            power: throughput * (end - start),
            span: { start, end },
            fixed: joining === true || staysUntil > now,
          },
        ],
  )
  if (machines.length < servers.length) return undefined
  // What is announced changes no plan: it takes long to make one.
  const planKey = JSON.stringify(machines)
  const known = plans.get(view)
  if (known?.version === version && known.planKey === planKey) return known
  const after = servers.map(({ start, end, throughput, intent }) =>
    intent
      ? { ...intent, throughput: (throughput * (end - start)) / (intent.end - intent.start) }
      : { start, end, throughput },
  )
  const isProvable = machines.length <= MAX_PROVED && machines.every(({ fixed }) => !fixed)
  const makePlan = (): Plan =>
    isProvable ? planSpans(blockCount, machines) : kickedPlan(blockCount, machines)
  const planned = {
    version,
    planKey,
    servers,
    plan: known?.planKey === planKey ? known.plan : makePlan(),
    flow: maxFlow(blockCount, servers),
    announced: maxFlow(blockCount, after),
  }
  plans.set(view, planned)
  return planned
}
