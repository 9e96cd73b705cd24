import type { LedgerCall, LedgerValue } from '../ledger/ledger.ts'

/**
 * Calls of pallet Disputes. All are signed by a node's hotkey; an accusation and a challenge each take a bond from its
 * free balance. Texts have at most 1,024 bytes.
 */

/** A Validator node accuses another; `evidence` is the SHA-256 of a fault proof. */
export function proposeDispute(
  subnetId: number,
  nodeId: number,
  accusation: { readonly defendant: number; readonly evidence: Uint8Array; readonly reason: string },
): LedgerCall {
  return disputes('propose', {
    subnet_id: subnetId,
    subnet_node_id: nodeId,
    defendant_node_id: accusation.defendant,
    evidence: accusation.evidence,
    data: text(accusation.reason),
  })
}

/** The accused contradicts. */
export function challengeDispute(subnetId: number, disputeId: number, reason: string): LedgerCall {
  return disputes('challenge_proposal', {
    subnet_id: subnetId,
    proposal_id: disputeId,
    data: text(reason),
  })
}

/** What a node that is no party found. */
export function voteDispute(
  subnetId: number,
  disputeId: number,
  nodeId: number,
  guilty: boolean,
): LedgerCall {
  return disputes('vote', {
    subnet_id: subnetId,
    proposal_id: disputeId,
    subnet_node_id: nodeId,
    yay: guilty,
  })
}

/** Settles a dispute whose period is over. */
export function finalizeDispute(subnetId: number, disputeId: number): LedgerCall {
  return disputes('finalize_proposal', { subnet_id: subnetId, proposal_id: disputeId })
}

/** Files what a chosen accountant found in an epoch, once, in that epoch or the next. */
export function submitAccountantData(
  subnetId: number,
  nodeId: number,
  epoch: number,
  data: Uint8Array,
): LedgerCall {
  return disputes('submit_accountant_data', {
    subnet_id: subnetId,
    subnet_node_id: nodeId,
    subnet_epoch: epoch,
    data,
  })
}

/** What fits, whatever the characters. */
function text(reason: string): Uint8Array {
  return new TextEncoder().encode(reason.slice(0, 250))
}

function disputes(call: string, args: Readonly<Record<string, LedgerValue>>): LedgerCall {
  return { pallet: 'Disputes', call, args }
}
