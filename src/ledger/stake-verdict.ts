import type { NodeClass, SubnetNode } from './ledger.ts'
import type { StakeAction, SubnetParameters } from './subnet-parameters.ts'

/** Whether a peer may do something, and if not why, in words for the person at the other end. */
export type StakeVerdict =
  | {
      readonly ok: true
      readonly class: NodeClass
      readonly stake: bigint
      /** Stake ÷ least stake for the action, at least 1; for limits that grow with stake. */
      readonly ratio: number
    }
  | { readonly ok: false; readonly reason: string; readonly retryAfterMs?: number }

/** A peer's verdict for every action, made once when the ledger changed. */
export type StakeVerdicts = Readonly<Record<StakeAction, StakeVerdict>>

/** Every action there is a least class for. */
export const STAKE_ACTIONS: readonly StakeAction[] = [
  'connect',
  'relay',
  'directory',
  'gossip',
  'serve',
  'infer',
  'sponsor',
]

const CLASSES: readonly NodeClass[] = ['Registered', 'Idle', 'Included', 'Validator']
/** Ratios are for rate limits; beyond this the stake buys no more. */
const MAX_RATIO = 1_000_000

/** The subnet's facts that a verdict depends on. */
export interface StakeRules {
  readonly parameters: SubnetParameters
  /** The subnet's own least stake. */
  readonly minStake: bigint
  /** Subnet epoch now: a class that starts later does not count yet. */
  readonly epoch: number
}

/**
 * What a node may do: its class must have begun and reach the action's, its stake the action's or the subnet's least.
 * A node that waits in the queue, or whose class has not begun, counts as Registered, as in `network_proofOfStake`. Pure.
 */
export function stakeVerdicts(node: SubnetNode, rules: StakeRules): StakeVerdicts {
  const begun = !node.queued && node.startEpoch <= rules.epoch
  const nodeClass: NodeClass = begun ? node.class : 'Registered'
  const verdict = (action: StakeAction): StakeVerdict => {
    const minClass = rules.parameters.minClass[action]
    if (CLASSES.indexOf(nodeClass) < CLASSES.indexOf(minClass)) {
      const later = begun ? '' : `, ${node.class} from epoch ${node.startEpoch} on`
      return refused(`node ${node.id} is ${nodeClass}${later}; to ${action} takes ${minClass}`)
    }
    const least = leastStake(rules, action)
    if (node.stake < least) {
      return refused(`node ${node.id} has a stake of ${node.stake}; to ${action} takes ${least}`)
    }
    return { ok: true, class: nodeClass, stake: node.stake, ratio: stakeRatio(node.stake, least) }
  }
  return Object.fromEntries(STAKE_ACTIONS.map((action) => [action, verdict(action)])) as Record<
    StakeAction,
    StakeVerdict
  >
}

/** Least stake for an action. */
export function leastStake({ parameters, minStake }: StakeRules, action: StakeAction): bigint {
  return parameters.minStake[action] ?? minStake
}

/** A refusal. */
export function refused(reason: string, retryAfterMs?: number): StakeVerdict {
  return { ok: false, reason, ...(retryAfterMs !== undefined && { retryAfterMs }) }
}

/** Parts per thousand first: stakes are far beyond what a double holds exactly. */
function stakeRatio(stake: bigint, least: bigint): number {
  if (least <= 0n) return 1
  return Math.min(MAX_RATIO, Math.max(1, Number((stake * 1000n) / least) / 1000))
}
