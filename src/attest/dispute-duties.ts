import type { Dispute } from '../ledger/ledger.ts'
import type { FaultVerdict } from './fault-proof.ts'

/** What a node owes to open disputes: pure. The ledger says what was done; a verdict is the node's own recomputation. */

/** Periods of the pallet, in blocks. */
export interface DisputePeriods {
  readonly challenge: number
  readonly voting: number
}

export interface DisputeView {
  readonly block: number
  /** This node, and whether it may vote. */
  readonly nodeId: number
  readonly mayVote: boolean
  readonly periods: DisputePeriods
  /** Own recomputation; undefined while there is none. `unproven` counts against the plaintiff. */
  readonly verdict: FaultVerdict['verdict'] | undefined
}

export type DisputeDuty =
  | { readonly do: 'judge' }
  | { readonly do: 'challenge' }
  | { readonly do: 'vote'; readonly guilty: boolean }
  | { readonly do: 'finalize' }
  | { readonly do: 'nothing'; readonly reason: string }

/**
 * The duty at `view`: the accused challenges when its own recomputation clears it; others vote on a challenge as they
 * recompute; anybody settles what is due. A plaintiff and an accused have voted by proposing and challenging.
 */
export function decideDispute(dispute: Dispute, view: DisputeView): DisputeDuty {
  const { block, nodeId, periods, verdict } = view
  const { challengeBlock, defendant, startBlock } = dispute
  if (dispute.outcome !== 'open') return nothing(dispute.outcome)
  if (challengeBlock === undefined) {
    if (block >= startBlock + periods.challenge) return settle(dispute, view, startBlock + periods.challenge)
    if (nodeId !== defendant) return nothing('waits for the accused')
    if (verdict === undefined) return { do: 'judge' }
    return verdict === 'guilty' ? nothing('the accusation holds') : { do: 'challenge' }
  }
  if (block >= challengeBlock + periods.voting) return settle(dispute, view, challengeBlock + periods.voting)
  if (dispute.yay.includes(nodeId) || dispute.nay.includes(nodeId)) return nothing('voted')
  if (!view.mayVote) return nothing('no voter')
  return verdict === undefined ? { do: 'judge' } : { do: 'vote', guilty: verdict === 'guilty' }
}

/** The plaintiff first, then the others one after another: each call that comes too late costs a fee. */
function settle({ id, plaintiff }: Dispute, { block, nodeId }: DisputeView, due: number): DisputeDuty {
  const delay = nodeId === plaintiff ? 0 : 2 + ((nodeId + id) % 16)
  return block >= due + delay ? { do: 'finalize' } : nothing('waits for another to settle it')
}

function nothing(reason: string): DisputeDuty {
  return { do: 'nothing', reason }
}
