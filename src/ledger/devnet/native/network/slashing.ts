import { atMost, less, ONE, percentDiv, percentMul } from './fixed-point.ts'
import { removeLiveNode } from './node-removal.ts'
import type { ConsensusData } from './records.ts'
import { decreaseReputation, lowerColdkey, lowerNode } from './reputation.ts'
import { decreaseStake } from './stake.ts'
import type { NetworkState } from './state.ts'

/** How far short of the least ratio a proposal fell: `1 - ratio / least`. */
export function shortfall(ratio: bigint, least: bigint): bigint {
  return less(ONE, percentDiv(ratio, least))
}

/** What a failed proposal costs its proposer: `stake · base · shortfall`, at most `limit`. */
export function slashAmount(
  stake: bigint,
  ratio: bigint,
  least: bigint,
  basePercentage: bigint,
  limit: bigint,
): bigint {
  if (ratio >= least) return 0n
  const amount = percentMul(percentMul(stake, basePercentage), shortfall(ratio, least))
  return atMost(atMost(amount, limit), stake)
}

/** A proposal that too few attested: its proposer is slashed, the subnet and every attestor lose reputation. */
export function punishProposal(
  net: NetworkState,
  subnetId: number,
  submission: ConsensusData,
  ratio: bigint,
): void {
  const least = net.big('MinAttestationPercentage')
  const missing = shortfall(ratio, least)
  slashProposer(net, subnetId, submission.validator_id, ratio, least)
  const previous = net.big('SubnetReputation', subnetId)
  const next = decreaseReputation(previous, net.big('NotInConsensusSubnetReputationFactor'))
  net.put('SubnetReputation', [subnetId], next)
  net.emit('SubnetReputationUpdate', {
    subnet_id: subnetId,
    prev_reputation: previous,
    new_reputation: next,
  })
  const factor = percentMul(net.big('NonConsensusAttestorDecreaseReputationFactor', subnetId), missing)
  for (const [nodeId] of submission.attests) {
    if (!net.has('SubnetNodeIdHotkey', subnetId, nodeId)) continue
    const reputation = lowerNode(net, subnetId, nodeId, factor)
    if (reputation < net.big('MinSubnetNodeReputation', subnetId)) removeLiveNode(net, subnetId, nodeId)
  }
}

function slashProposer(
  net: NetworkState,
  subnetId: number,
  nodeId: number,
  ratio: bigint,
  least: bigint,
): void {
  const hotkey = net.get<string | undefined>('SubnetNodeIdHotkey', subnetId, nodeId)
  if (hotkey === undefined) return
  const stake = net.big('AccountSubnetStake', hotkey, subnetId)
  const amount = slashAmount(stake, ratio, least, net.big('BaseSlashPercentage'), net.big('MaxSlashAmount'))
  if (amount > 0n) decreaseStake(net, hotkey, subnetId, amount)
  const factor = net.big('ValidatorNonConsensusSubnetNodeReputationFactor', subnetId)
  const reputation = lowerNode(net, subnetId, nodeId, percentMul(factor, shortfall(ratio, least)))
  const coldkey = net.find<string>('HotkeyOwner', hotkey)
  if (coldkey !== undefined) {
    lowerColdkey(net, coldkey, ratio, least, net.epoch)
    if (reputation < net.big('MinSubnetNodeReputation', subnetId)) removeLiveNode(net, subnetId, nodeId)
  }
  net.emit('Slashing', { subnet_id: subnetId, account_id: hotkey, amount })
}
