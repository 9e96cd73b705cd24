import { elect } from './election.ts'
import { fixEmissionWeights, splitReward } from './emission.ts'
import { overwatchEpochBlocks, subnetEpoch } from './epochs.ts'
import { atMost, ONE, percentDiv } from './fixed-point.ts'
import { lookUp } from './ordered-map.ts'
import { payOverwatch } from './overwatch-rewards.ts'
import { admitQueued, updateBurnRate } from './queue.ts'
import {
  type ConsensusData,
  type DistributionData,
  type EmergencySet,
  hasClass,
  type SubnetData,
} from './records.ts'
import { applyRemovalRules } from './removal-rules.ts'
import { payConsensus, punishAbsence } from './rewards.ts'
import { punishProposal } from './slashing.ts'
import type { NetworkState } from './state.ts'
import { executeSwaps } from './swap-queue.ts'

/**
 * First thing in a block. One of: the removal rules (first block of an epoch), overwatch rewards (second of an overwatch
 * epoch), the emission weights (third of an epoch), a subnet's step (its slot). Then the swap queue.
 */
export function onBlock(net: NetworkState): void {
  if (net.get<boolean>('TxPause')) return
  const { block, epochBlocks } = net
  const overwatchBlocks = overwatchEpochBlocks(net)
  if (block >= epochBlocks && block % epochBlocks === 0) applyRemovalRules(net)
  else if (block - 1 >= overwatchBlocks && (block - 1) % overwatchBlocks === 0) payOverwatch(net)
  else if (block - 2 >= epochBlocks && (block - 2) % epochBlocks === 0) fixEmissionWeights(net)
  else {
    const subnetId = net.get<number | undefined>('SlotAssignment', block % epochBlocks)
    if (subnetId !== undefined) stepSubnet(net, subnetId)
  }
  executeSwaps(net)
}

/** At the subnet's slot: settles the subnet epoch that ended, elects for the new one, moves the queue. */
function stepSubnet(net: NetworkState, subnetId: number): void {
  const emission = net.find<DistributionData>('FinalSubnetEmissionWeights', net.epoch)
  const weight = emission === undefined ? undefined : lookUp(emission.weights, subnetId)
  if (emission === undefined || weight === undefined) return
  const epoch = subnetEpoch(net, subnetId)
  if (epoch > 0) settle(net, subnetId, epoch, emission.validator_emissions, weight)
  elect(net, subnetId, epoch)
  admitQueued(net, subnetId, epoch)
  updateBurnRate(net, subnetId)
}

function settle(net: NetworkState, subnetId: number, epoch: number, emission: bigint, weight: bigint): void {
  const submission = net.get<ConsensusData | undefined>('SubnetConsensusSubmission', subnetId, epoch - 1)
  if (submission === undefined) {
    const subnet = net.get<SubnetData | undefined>('SubnetsData', subnetId)
    if (subnet?.state !== 'Active' || subnet.start_epoch > net.epoch) return
    const elected = net.get<number | undefined>('SubnetElectedValidator', subnetId, epoch - 1)
    if (elected !== undefined) punishAbsence(net, subnetId, elected)
    return
  }
  const ratio = attestationRatio(net, subnetId, epoch - 1, submission)
  const emergency = countEmergencyEpoch(net, subnetId)
  if (ratio < net.big('MinAttestationPercentage')) {
    punishProposal(net, subnetId, submission, ratio)
    return
  }
  const reward = splitReward(
    emission,
    weight,
    net.big('SubnetOwnerPercentage'),
    net.big('SubnetDelegateStakeRewardsPercentage', subnetId),
  )
  payConsensus(net, { subnetId, subnetEpoch: epoch, submission, ratio, reward, emergency })
}

/** Attestations over those who could attest: Validator-class nodes of the snapshot, or the emergency set. */
export function attestationRatio(
  net: NetworkState,
  subnetId: number,
  epoch: number,
  submission: ConsensusData,
): bigint {
  const emergency = net.get<EmergencySet | undefined>('EmergencySubnetNodeElectionData', subnetId)
  const attestors =
    emergency?.subnet_node_ids.length ??
    submission.subnet_nodes.filter((node) => hasClass(node, 'Validator', epoch)).length
  return atMost(percentDiv(BigInt(submission.attests.length), BigInt(attestors)), ONE)
}

/** @returns the emergency set's nodes, while one stands. */
function countEmergencyEpoch(net: NetworkState, subnetId: number): readonly number[] | undefined {
  const emergency = net.get<EmergencySet | undefined>('EmergencySubnetNodeElectionData', subnetId)
  if (emergency === undefined) return undefined
  const total_epochs = emergency.total_epochs + 1
  net.put('EmergencySubnetNodeElectionData', [subnetId], { ...emergency, total_epochs })
  return emergency.subnet_node_ids
}
