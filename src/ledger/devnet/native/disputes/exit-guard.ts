import { DispatchFailure } from '../dispatch-error.ts'
import type { PalletContext } from '../pallet.ts'
import { DISPUTE_ERRORS, PALLET_INDEX, PALLET_NAME } from './records.ts'

/**
 * Keeps an accused node and its stake where they are until its dispute is settled: the Network pallet asks before a node's
 * removal by its owner, before stake is taken out and before a hotkey changes. @throws DispatchFailure
 * `Disputes.NodeHasActiveProposal`
 */
export function guardExit(context: PalletContext, subnetId: number, hotkey: string): void {
  if (!context.has(`${PALLET_NAME}.Accused`, subnetId, hotkey)) return
  const error = 'NodeHasActiveProposal'
  const value = { index: PALLET_INDEX, error: Uint8Array.of(DISPUTE_ERRORS.indexOf(error), 0, 0, 0) }
  throw new DispatchFailure({ type: 'Module', value }, `${PALLET_NAME}.${error}`)
}
