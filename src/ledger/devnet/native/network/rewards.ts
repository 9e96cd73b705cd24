import type { SubnetReward } from './emission.ts'
import { donate, nodePool, subnetPool } from './delegate-pool.ts'
import { addToElection } from './election.ts'
import { less, ONE, percentDiv, percentMul } from './fixed-point.ts'
import { graduate } from './node-classes.ts'
import { removeLiveNode, removeQueuedNode } from './node-removal.ts'
import { lookUp } from './ordered-map.ts'
import type { ConsensusData, SubnetNode } from './records.ts'
import {
  decreaseReputation,
  increaseReputation,
  lowerNode,
  raiseColdkey,
  setNodeReputation,
} from './reputation.ts'
import { increaseStake } from './stake.ts'
import type { NetworkState } from './state.ts'

/** One subnet epoch whose proposal reached consensus. */
interface Settlement {
  readonly subnetId: number
  readonly subnetEpoch: number
  readonly submission: ConsensusData
  readonly ratio: bigint
  readonly reward: SubnetReward
  /** Node ids of the emergency set, while one stands. */
  readonly emergency: readonly number[] | undefined
}

/** What was paid, as the event tells it. */
interface Payouts {
  readonly nodes: (readonly [number, bigint])[]
  readonly delegates: (readonly [number, bigint])[]
  readonly accounts: (readonly [number, readonly [string, bigint]])[]
}

/** Pays the proposer, the owner, every node that earned something, and the delegates; moves classes and reputations. */
export function payConsensus(net: NetworkState, settlement: Settlement): void {
  const { subnetId, submission, ratio, reward } = settlement
  payProposer(net, settlement)
  const superMajority = ratio >= net.big('SuperMajorityAttestationRatio')
  if (superMajority) carryOutQueueWishes(net, subnetId, submission)
  const reputation = net.big('SubnetReputation', subnetId)
  if (reputation !== ONE && submission.data.length >= net.num('MinSubnetNodes')) {
    const factor = net.big('InConsensusSubnetReputationFactor')
    net.put('SubnetReputation', [subnetId], increaseReputation(reputation, factor))
  }
  const owner = net.get<string | undefined>('SubnetOwner', subnetId)
  if (owner !== undefined) net.context.balances.deposit(owner, reward.owner)
  const paid: Payouts = { nodes: [], delegates: [], accounts: [] }
  const scores = new Map(submission.data.map(({ subnet_node_id, score }) => [subnet_node_id, score]))
  const scoreSum = submission.data.reduce((sum, { score }) => sum + score, 0n)
  for (const node of submission.subnet_nodes) {
    const score = scores.get(node.id)
    const share = score === undefined ? undefined : percentDiv(score, scoreSum)
    const factor = settleNode(net, settlement, node, share, superMajority)
    if (factor > 0n && share !== undefined)
      payNode(net, subnetId, node, percentMul(percentMul(share, reward.nodes), factor), paid)
  }
  if (reward.delegates !== 0n) donate(net, subnetPool(subnetId), reward.delegates)
  net.emit('SubnetRewards', {
    subnet_id: subnetId,
    node_rewards: paid.nodes,
    delegate_stake_reward: reward.delegates,
    node_delegate_stake_rewards: paid.delegates,
    node_delegate_account_allocations: paid.accounts,
  })
}

function payProposer(net: NetworkState, { subnetId, submission, ratio }: Settlement): void {
  const hotkey = net.get<string | undefined>('SubnetNodeIdHotkey', subnetId, submission.validator_id)
  if (hotkey === undefined) return
  const coldkey = net.find<string>('HotkeyOwner', hotkey)
  if (coldkey !== undefined) raiseColdkey(net, coldkey, ratio, net.big('MinAttestationPercentage'), net.epoch)
  const amount = percentMul(net.big('BaseValidatorReward'), submission.validator_reward_factor)
  increaseStake(net, hotkey, subnetId, amount)
}

function carryOutQueueWishes(net: NetworkState, subnetId: number, submission: ConsensusData): void {
  const { prioritize_queue_node_id: first, remove_queue_node_id: unwanted } = submission
  const queue = net.get<readonly SubnetNode[]>('SubnetNodeQueue', subnetId)
  const preferred = queue.find(({ id }) => id === first)
  if (preferred !== undefined) {
    net.put('SubnetNodeQueue', [subnetId], [preferred, ...queue.filter(({ id }) => id !== first)])
    net.emit('QueuedNodePrioritized', { subnet_id: subnetId, subnet_node_id: preferred.id })
  }
  if (unwanted === undefined || !net.has('SubnetNodeIdHotkey', subnetId, unwanted)) return
  removeQueuedNode(net, subnetId, unwanted)
  net.emit('QueuedNodeRemoved', { subnet_id: subnetId, subnet_node_id: unwanted })
}

/**
 * One node of the snapshot: removal, class, reputation. `share` is its part of all scores, undefined when it has none.
 * @returns what its reward is multiplied with; 0 when it gets none.
 */
function settleNode(
  net: NetworkState,
  settlement: Settlement,
  node: SubnetNode,
  share: bigint | undefined,
  superMajority: boolean,
): bigint {
  const { subnetId, submission, subnetEpoch, emergency } = settlement
  const least = net.big('MinSubnetNodeReputation', subnetId)
  const nodeClass = node.classification.node_class
  let reputation = net.big('SubnetNodeReputation', subnetId, node.id)
  if (reputation < least) {
    removeLiveNode(net, subnetId, node.id)
    return 0n
  }
  if (nodeClass === 'Idle' && emergency === undefined) {
    const epochs = net.count('SubnetNodeIdleConsecutiveEpochs', [subnetId, node.id], 1)
    if (epochs >= net.num('IdleClassificationEpochs', subnetId)) graduate(net, subnetId, node.id, subnetEpoch)
    return 0n
  }
  const lower = (factorItem: string): void => {
    const next = decreaseReputation(reputation, net.big(factorItem, subnetId))
    reputation = setNodeReputation(net, subnetId, node.id, reputation, next)
  }
  if (share === undefined) {
    lower('AbsentDecreaseReputationFactor')
    if (nodeClass === 'Included') net.put('SubnetNodeConsecutiveIncludedEpochs', [subnetId, node.id], 0)
    return 0n
  }
  if (reputation !== ONE)
    reputation = setNodeReputation(
      net,
      subnetId,
      node.id,
      reputation,
      increaseReputation(reputation, net.big('IncludedIncreaseReputationFactor', subnetId)),
    )
  if (share < net.big('SubnetNodeMinWeightDecreaseReputationThreshold', subnetId))
    lower('BelowMinWeightDecreaseReputationFactor')
  if (nodeClass === 'Included' && emergency === undefined) {
    const epochs = net.count('SubnetNodeConsecutiveIncludedEpochs', [subnetId, node.id], 1)
    const ready = reputation >= ONE && epochs >= net.num('IncludedClassificationEpochs', subnetId)
    if (ready && graduate(net, subnetId, node.id, subnetEpoch)) {
      addToElection(net, subnetId, node.id)
      net.drop('SubnetNodeConsecutiveIncludedEpochs', subnetId, node.id)
    }
    return 0n
  }
  const attested = lookUp(submission.attests, node.id)
  const expected = emergency === undefined || emergency.includes(node.id)
  const factor = expected && attested !== undefined ? attested.reward_factor : ONE
  if (expected && attested === undefined && superMajority) lower('NonAttestorDecreaseReputationFactor')
  if (factor !== 0n && reputation < least) {
    removeLiveNode(net, subnetId, node.id)
    return 0n
  }
  return factor
}

/** Splits a node's reward: its delegates', its delegate account's, the rest compounds into its stake. */
function payNode(net: NetworkState, subnetId: number, node: SubnetNode, amount: bigint, paid: Payouts): void {
  if (amount === 0n) return
  let left = amount
  const pool = nodePool(subnetId, node.id)
  if (node.delegate_reward_rate !== 0n && net.big(pool.sharesItem, ...pool.keys) !== 0n) {
    const part = percentMul(left, node.delegate_reward_rate)
    left = less(left, part)
    donate(net, pool, part)
    paid.delegates.push([node.id, part])
  }
  if (node.delegate_account !== undefined) {
    const { account_id, rate } = node.delegate_account
    const part = percentMul(left, rate)
    left = less(left, part)
    net.grow('AccountDelegateStake', [account_id], part)
    net.grow('TotalAccountDelegateStake', [], part)
    paid.accounts.push([node.id, [account_id, part]])
  }
  // A hotkey that was changed since the proposal gets what its old name earned.
  const hotkey = net.get<string | undefined>('SubnetNodeIdHotkey', subnetId, node.id) ?? node.hotkey
  increaseStake(net, hotkey, subnetId, left)
  paid.nodes.push([node.id, left])
}

/** The elected node proposed nothing: it and its subnet lose reputation. */
export function punishAbsence(net: NetworkState, subnetId: number, elected: number): void {
  const next = decreaseReputation(
    net.big('SubnetReputation', subnetId),
    net.big('ValidatorAbsentSubnetReputationFactor'),
  )
  net.put('SubnetReputation', [subnetId], next)
  lowerNode(net, subnetId, elected, net.big('ValidatorAbsentDecreaseReputationFactor', subnetId))
}
