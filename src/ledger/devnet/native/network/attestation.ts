import { ensureLength, MAX_ATTEST } from './bounds.ts'
import { attestorProgress, currentClock, subnetEpoch } from './epochs.ts'
import { atMost, fromFloat, ONE, toFloat, U128_MAX } from './fixed-point.ts'
import { nodesOfClass } from './node-store.ts'
import { hasKey, withEntry } from './ordered-map.ts'
import { type AttestEntry, type ConsensusData, hasClass, type Score, type SubnetNode } from './records.ts'
import type { EmergencySet } from './records.ts'
import { concaveDownDecreasing, sigmoidDecreasing } from './reward-curves.ts'
import type { Handlers, NetworkState } from './state.ts'

/** What the proposer's reward is multiplied with; falls with the progress of the epoch at the proposal. */
export function proposerFactor(net: NetworkState, progress: bigint): bigint {
  const mid = toFloat(net.big('ValidatorRewardMidpoint'))
  const k = Number(net.big('ValidatorRewardK'))
  return atMost(fromFloat(sigmoidDecreasing(toFloat(progress), mid, k)), ONE)
}

/** What an attestor's reward is multiplied with; falls with the part of the remaining epoch that it let pass. */
export function attestorFactor(net: NetworkState, progress: bigint): bigint {
  const least = toFloat(net.big('AttestorMinRewardFactor'))
  const exponent = Number(net.big('AttestorRewardExponent'))
  return atMost(fromFloat(concaveDownDecreasing(toFloat(progress), least, 1, exponent)), ONE)
}

type Proposal = {
  readonly subnet_id: number
  readonly data: readonly Score[]
  readonly prioritize_queue_node_id: number | undefined
  readonly remove_queue_node_id: number | undefined
  readonly args: Uint8Array | undefined
  readonly attest_data: Uint8Array | undefined
}

function propose(net: NetworkState, who: string, proposal: Proposal): void {
  const subnetId = proposal.subnet_id
  ensureLength('args', proposal.args, MAX_ATTEST)
  ensureLength('attest_data', proposal.attest_data, MAX_ATTEST)
  const clock = currentClock(net, subnetId)
  net.ensure(clock !== undefined, 'SubnetEpochDataIsNone')
  const elected = net.get<number | undefined>('SubnetElectedValidator', subnetId, clock.epoch)
  net.ensure(elected !== undefined, 'NoElectedValidator')
  net.ensure(net.get('SubnetNodeIdHotkey', subnetId, elected) === who, 'InvalidValidator')
  net.ensure(!net.has('SubnetConsensusSubmission', subnetId, clock.epoch), 'SubnetRewardsAlreadySubmitted')
  const data = acceptedScores(net, subnetId, clock.epoch, proposal.data)
  const own: AttestEntry = {
    block: net.block,
    attestor_progress: 0n,
    reward_factor: ONE,
    data: proposal.attest_data,
  }
  const consensus: ConsensusData = {
    validator_id: elected,
    block: net.block,
    validator_epoch_progress: clock.progress,
    validator_reward_factor: proposerFactor(net, clock.progress),
    attests: [[elected, own]],
    subnet_nodes: nodesOfClass(net, subnetId, 'Idle', clock.epoch),
    ...queueWishes(net, subnetId, clock.epoch, proposal),
    data,
    args: proposal.args,
  }
  net.put('SubnetConsensusSubmission', [subnetId, clock.epoch], consensus)
  net.emit('ValidatorSubmission', { subnet_id: subnetId, account_id: who, epoch: clock.epoch })
}

/** Scores of nodes that are at least Included, each node once: the first entry counts. */
function acceptedScores(
  net: NetworkState,
  subnetId: number,
  epoch: number,
  scores: readonly Score[],
): readonly Score[] {
  const seen = new Set<number>()
  const accepted = scores.filter(({ subnet_node_id: id }) => {
    if (seen.has(id)) return false
    seen.add(id)
    const node = net.find<SubnetNode>('SubnetNodesData', subnetId, id)
    return node !== undefined && hasClass(node, 'Included', epoch)
  })
  const sum = accepted.reduce((total, { score }) => total + score, 0n)
  net.ensure(sum <= U128_MAX, 'ScoreOverflow')
  return accepted
}

/** What the proposer wants done with the queue, where it may: prioritise a queued node, remove one that is not immune. */
function queueWishes(
  net: NetworkState,
  subnetId: number,
  epoch: number,
  wishes: Proposal,
): Pick<ConsensusData, 'prioritize_queue_node_id' | 'remove_queue_node_id'> {
  const queue = net.get<readonly SubnetNode[]>('SubnetNodeQueue', subnetId)
  const immunity = net.num('QueueImmunityEpochs', subnetId)
  return {
    prioritize_queue_node_id: queue.find(({ id }) => id === wishes.prioritize_queue_node_id)?.id,
    remove_queue_node_id: queue.find(
      ({ id, classification }) =>
        id === wishes.remove_queue_node_id && classification.start_epoch + immunity <= epoch,
    )?.id,
  }
}

function attest(net: NetworkState, who: string, subnetId: number, data: Uint8Array | undefined): void {
  ensureLength('attest_data', data, MAX_ATTEST)
  const epoch = subnetEpoch(net, subnetId)
  const nodeId = net.get<number | undefined>('HotkeySubnetNodeId', subnetId, who)
  net.ensure(nodeId !== undefined, 'InvalidHotkeySubnetNodeId')
  const node = net.find<SubnetNode>('SubnetNodesData', subnetId, nodeId)
  net.ensure(node !== undefined, 'InvalidSubnetNodeId')
  net.ensure(hasClass(node, 'Validator', epoch), 'InvalidSubnetNodeClassification')
  const emergency = net.get<EmergencySet | undefined>('EmergencySubnetNodeElectionData', subnetId)
  net.ensure(
    emergency === undefined || emergency.subnet_node_ids.includes(nodeId),
    'InvalidEmergencySubnetNodeId',
  )
  const consensus = net.get<ConsensusData | undefined>('SubnetConsensusSubmission', subnetId, epoch)
  net.ensure(consensus !== undefined, 'InvalidSubnetConsensusSubmission')
  net.ensure(
    consensus.subnet_nodes.some(({ id }) => id === nodeId),
    'InvalidSubnetNodeId',
  )
  net.ensure(!hasKey(consensus.attests, nodeId), 'AlreadyAttested')
  const slot = net.num('SubnetSlot', subnetId)
  const progress = attestorProgress(net.block, consensus.block, slot, net.epochBlocks)
  const entry: AttestEntry = {
    block: net.block,
    attestor_progress: progress,
    reward_factor: attestorFactor(net, progress),
    data,
  }
  const attests = withEntry(consensus.attests, nodeId, entry)
  net.put('SubnetConsensusSubmission', [subnetId, epoch], { ...consensus, attests })
  net.emit('Attestation', { subnet_id: subnetId, subnet_node_id: nodeId, epoch })
}

export const attestationCalls: Handlers = {
  propose_attestation(net: NetworkState, args, who) {
    propose(net, who, args as Proposal)
  },
  attest(net: NetworkState, args, who) {
    const { subnet_id, attest_data } = args as { subnet_id: number; attest_data: Uint8Array | undefined }
    attest(net, who, subnet_id, attest_data)
  },
}
