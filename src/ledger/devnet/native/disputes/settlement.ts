import { percentDiv } from '../network/fixed-point.ts'
import { decreaseStake } from '../network/stake.ts'
import { TREASURY } from '../network/state.ts'
import { dispatchCall } from '../state.ts'
import { payOut, payShares } from './bonds.ts'
import {
  type DisputeRecord,
  type DisputeState,
  ensure,
  openDispute,
  type Outcome,
  PALLET_NAME,
  parameter,
  writeDispute,
} from './records.ts'

/**
 * Settles what is due; anybody may call it. Unchallenged after the challenge period: upheld. After the voting period: by
 * the votes of those who are no party. A subnet that is gone: both bonds back.
 */
export function finalize(state: DisputeState, subnetId: number, id: number): void {
  const dispute = openDispute(state, subnetId, id)
  const { context, net } = state
  if (!net.has('SubnetsData', subnetId)) {
    returnBonds(state, subnetId, dispute)
    release(state, subnetId, id, dispute, 'Cancelled')
    return
  }
  const { challenge_block: challenged } = dispute
  if (challenged === undefined) {
    const end = dispute.start_block + parameter<number>(state, 'ChallengePeriod')
    ensure(state, context.block >= end, 'ProposalChallengePeriodNotPassed')
  } else {
    const end = challenged + parameter<number>(state, 'VotingPeriod')
    ensure(state, context.block >= end, 'ProposalVotingPeriodNotPassed')
  }
  const outcome =
    challenged === undefined
      ? 'Upheld'
      : countVotes(
          dispute,
          parameter<bigint>(state, 'ProposalQuorum'),
          parameter<bigint>(state, 'ProposalConsensusThreshold'),
        )
  if (outcome === 'Upheld') uphold(state, subnetId, id, dispute)
  else if (outcome === 'Dismissed') dismiss(state, subnetId, dispute)
  else returnBonds(state, subnetId, dispute)
  release(state, subnetId, id, dispute, outcome)
}

/**
 * Of the nodes that are no party: too few voted, or neither side reaches the threshold of all of them → no quorum. The
 * parties' own votes say who they are and count for nothing; otherwise nobody could be convicted in a small subnet.
 */
export function countVotes(dispute: DisputeRecord, quorum: bigint, threshold: bigint): Outcome {
  const count = (votes: readonly number[]): bigint =>
    BigInt(votes.filter((node) => dispute.voters.includes(node)).length)
  const all = BigInt(dispute.voters.length)
  const yay = count(dispute.yay)
  const nay = count(dispute.nay)
  if (all === 0n || percentDiv(yay + nay, all) < quorum) return 'NoQuorum'
  if (percentDiv(yay, all) >= threshold) return 'Upheld'
  return percentDiv(nay, all) >= threshold ? 'Dismissed' : 'NoQuorum'
}

/** The accused node is removed, its whole stake goes to the treasury, its bond to those who voted against it. */
function uphold(state: DisputeState, subnetId: number, id: number, dispute: DisputeRecord): void {
  const { context, net } = state
  const defendant = hotkeyOf(state, subnetId, dispute.defendant, dispute.defendant_hotkey)
  const plaintiff = hotkeyOf(state, subnetId, dispute.plaintiff, dispute.plaintiff_hotkey)
  if (net.has('SubnetNodeIdHotkey', subnetId, dispute.defendant)) {
    const args = { subnet_id: subnetId, subnet_node_id: dispute.defendant }
    const value = { type: 'collective_remove_subnet_node', value: args }
    dispatchCall(context, 'root', { type: 'Network', value })
  }
  const stake = net.big('AccountSubnetStake', defendant, subnetId)
  decreaseStake(net, defendant, subnetId, stake)
  context.balances.deposit(TREASURY, stake)
  context.emit('DefendantSlashed', {
    subnet_id: subnetId,
    proposal_id: id,
    subnet_node_id: dispute.defendant,
    account_id: defendant,
    amount: stake,
  })
  payOut(state, plaintiff, dispute.plaintiff_bond)
  payShares(state, hotkeysOf(state, subnetId, dispute.yay), dispute.defendant_bond, plaintiff)
}

function dismiss(state: DisputeState, subnetId: number, dispute: DisputeRecord): void {
  const defendant = hotkeyOf(state, subnetId, dispute.defendant, dispute.defendant_hotkey)
  payOut(state, defendant, dispute.defendant_bond)
  payShares(state, hotkeysOf(state, subnetId, dispute.nay), dispute.plaintiff_bond, defendant)
}

function returnBonds(state: DisputeState, subnetId: number, dispute: DisputeRecord): void {
  payOut(
    state,
    hotkeyOf(state, subnetId, dispute.plaintiff, dispute.plaintiff_hotkey),
    dispute.plaintiff_bond,
  )
  payOut(
    state,
    hotkeyOf(state, subnetId, dispute.defendant, dispute.defendant_hotkey),
    dispute.defendant_bond,
  )
}

/** The node's present hotkey, or the one it had when the node is gone. */
function hotkeyOf({ net }: DisputeState, subnetId: number, nodeId: number, before: string): string {
  return net.get<string | undefined>('SubnetNodeIdHotkey', subnetId, nodeId) ?? before
}

/** Present hotkeys of those of the nodes that still are. */
function hotkeysOf({ net }: DisputeState, subnetId: number, nodes: readonly number[]): string[] {
  return nodes.flatMap((id) => net.get<string | undefined>('SubnetNodeIdHotkey', subnetId, id) ?? [])
}

/** Closes a dispute whose bonds are paid out: the accused may leave again. */
export function release(
  state: DisputeState,
  subnetId: number,
  id: number,
  dispute: DisputeRecord,
  outcome: Outcome,
): void {
  const { context } = state
  context.remove(`${PALLET_NAME}.Accused`, subnetId, dispute.defendant_hotkey)
  writeDispute(state, subnetId, id, { ...dispute, plaintiff_bond: 0n, defendant_bond: 0n, outcome })
  const event = outcome === 'Cancelled' ? 'ProposalCanceled' : 'ProposalFinalized'
  const ids = {
    subnet_id: subnetId,
    proposal_id: id,
    plaintiff: dispute.plaintiff,
    defendant: dispute.defendant,
  }
  context.emit(event, outcome === 'Cancelled' ? ids : { ...ids, outcome })
}
