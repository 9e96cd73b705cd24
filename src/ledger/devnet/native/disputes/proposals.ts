import { findNode } from '../network/node-store.ts'
import { takeBond } from './bonds.ts'
import {
  type DisputeRecord,
  type DisputeState,
  ensure,
  ensureHotkey,
  MAX_DATA,
  openDispute,
  PALLET_NAME,
  parameter,
  validators,
  writeDispute,
} from './records.ts'
import { release } from './settlement.ts'
import { payOut } from './bonds.ts'

export interface Accusation {
  readonly subnet_id: number
  readonly subnet_node_id: number
  readonly defendant_node_id: number
  readonly evidence: Uint8Array
  readonly data: Uint8Array
}

/** A Validator node accuses another node and pays a bond. The accused can't leave until the dispute is settled. */
export function propose(state: DisputeState, who: string, accusation: Accusation): void {
  const { subnet_id: subnetId, subnet_node_id: plaintiff, defendant_node_id: defendant } = accusation
  const { context, net } = state
  ensureHotkey(state, subnetId, plaintiff, who)
  ensure(state, accusation.data.length <= MAX_DATA, 'DataTooLong')
  ensure(state, plaintiff !== defendant, 'PlaintiffIsDefendant')
  const all = validators(state, subnetId)
  ensure(state, all.includes(plaintiff), 'NodeAccountantEpochNotReached')
  ensure(state, all.length >= net.num('MinSubnetNodes'), 'SubnetNodesMin')
  const accused = findNode(net, subnetId, defendant)
  ensure(state, accused !== undefined, 'PeerIdNotExist')
  ensure(state, !context.has(`${PALLET_NAME}.Accused`, subnetId, accused.hotkey), 'NodeHasActiveProposal')
  const id = context.get(`${PALLET_NAME}.ProposalsCount`, subnetId) as number
  context.set(`${PALLET_NAME}.ProposalsCount`, [subnetId], id + 1)
  writeDispute(state, subnetId, id, {
    plaintiff,
    defendant,
    plaintiff_hotkey: who,
    defendant_hotkey: accused.hotkey,
    plaintiff_bond: takeBond(state, who),
    defendant_bond: 0n,
    start_block: context.block,
    challenge_block: undefined,
    voters: all.filter((node) => node !== plaintiff && node !== defendant),
    yay: [plaintiff],
    nay: [],
    evidence: accusation.evidence,
    plaintiff_data: accusation.data,
    defendant_data: new Uint8Array(),
    outcome: 'Open',
  })
  context.set(`${PALLET_NAME}.Accused`, [subnetId, accused.hotkey], id)
  context.emit('DishonestSubnetNodeProposed', {
    subnet_id: subnetId,
    proposal_id: id,
    subnet_node_id: plaintiff,
    defendant_node_id: defendant,
    block: context.block,
  })
}

/** The accused contradicts with an equal bond, which opens the vote. */
export function challenge(
  state: DisputeState,
  who: string,
  subnetId: number,
  id: number,
  data: Uint8Array,
): void {
  const dispute = openDispute(state, subnetId, id)
  const { context, net } = state
  ensure(state, net.get('SubnetNodeIdHotkey', subnetId, dispute.defendant) === who, 'NotDefendant')
  ensure(state, data.length <= MAX_DATA, 'DataTooLong')
  ensure(state, dispute.challenge_block === undefined, 'ProposalChallenged')
  const end = dispute.start_block + parameter<number>(state, 'ChallengePeriod')
  ensure(state, context.block < end, 'ProposalChallengePeriodPassed')
  writeDispute(state, subnetId, id, {
    ...dispute,
    defendant_bond: takeBond(state, who),
    challenge_block: context.block,
    nay: [dispute.defendant],
    defendant_data: data,
  })
  context.emit('ProposalChallenged', {
    subnet_id: subnetId,
    proposal_id: id,
    subnet_node_id: dispute.defendant,
    block: context.block,
  })
}

/** A Validator node that is no party says what it found. */
export function vote(
  state: DisputeState,
  who: string,
  subnetId: number,
  id: number,
  nodeId: number,
  yay: boolean,
): void {
  const dispute = openDispute(state, subnetId, id)
  const { context } = state
  ensureHotkey(state, subnetId, nodeId, who)
  ensure(state, dispute.challenge_block !== undefined, 'ProposalUnchallenged')
  const end = dispute.challenge_block + parameter<number>(state, 'VotingPeriod')
  ensure(state, context.block < end, 'ProposalVotingPeriodPassed')
  ensure(state, dispute.voters.includes(nodeId), 'NotEligible')
  ensure(state, ![...dispute.yay, ...dispute.nay].includes(nodeId), 'DuplicateVote')
  const voted: DisputeRecord = yay
    ? { ...dispute, yay: [...dispute.yay, nodeId] }
    : { ...dispute, nay: [...dispute.nay, nodeId] }
  writeDispute(state, subnetId, id, voted)
  context.emit('ProposalVote', { subnet_id: subnetId, proposal_id: id, subnet_node_id: nodeId, yay })
}

/** The plaintiff takes the accusation back before it is challenged, and its bond with it. */
export function cancel(state: DisputeState, who: string, subnetId: number, id: number): void {
  const dispute = openDispute(state, subnetId, id)
  const current = state.net.get<string | undefined>('SubnetNodeIdHotkey', subnetId, dispute.plaintiff)
  ensure(state, (current ?? dispute.plaintiff_hotkey) === who, 'NotPlaintiff')
  ensure(state, dispute.challenge_block === undefined, 'ProposalChallenged')
  payOut(state, who, dispute.plaintiff_bond)
  release(state, subnetId, id, dispute, 'Cancelled')
}
