import type { LedgerCall, LedgerValue } from '../ledger/ledger.ts'

/** Calls of pallet Disputes. All are signed by a node's hotkey; a proposal and a challenge each withdraw a bond. */

/** Accuses a node; `evidence` is the SHA-256 of a fault proof. */
export function proposeDispute(subnetId: number, defendant: number, evidence: Uint8Array): LedgerCall {
  return disputes('propose', { subnet_id: subnetId, defendant, evidence })
}

/** The accused contradicts. */
export function challengeDispute(subnetId: number, disputeId: number): LedgerCall {
  return disputes('challenge', { subnet_id: subnetId, dispute_id: disputeId })
}

/** A voter's own finding. */
export function voteDispute(subnetId: number, disputeId: number, guilty: boolean): LedgerCall {
  return disputes('vote', { subnet_id: subnetId, dispute_id: disputeId, yay: guilty })
}

/** Settles a dispute whose period is over. */
export function finalizeDispute(subnetId: number, disputeId: number): LedgerCall {
  return disputes('finalize', { subnet_id: subnetId, dispute_id: disputeId })
}

/** Files what an accountant found in an epoch; at most 1,024 bytes. */
export function submitAccountantData(subnetId: number, data: Uint8Array): LedgerCall {
  return disputes('submit_accountant_data', { subnet_id: subnetId, data })
}

function disputes(call: string, args: Readonly<Record<string, LedgerValue>>): LedgerCall {
  return { pallet: 'Disputes', call, args }
}
