import type { SubnetParameters } from '../ledger/subnet-parameters.ts'

/** Where a block lies in its subnet's epochs. */
export interface EpochTime {
  /** (block - slot) / epochBlocks, rounded down; negative before the subnet's first slot. */
  readonly epoch: number
  readonly firstBlock: number
  readonly lastBlock: number
  /** Parts per thousand of the epoch that have passed, rounded down: 0 in its first block. */
  readonly progress: number
}

/**
 * The subnet epoch of `block`, as the Network pallet counts it. `subnetEpochOf` of the conformance script says the same
 * apart from this, with progress in the pallet's 1e18ths: it judges chains and must not repeat a mistake of the duties.
 */
export function epochTime(block: number, slot: number, epochBlocks: number): EpochTime {
  const epoch = Math.floor((block - slot) / epochBlocks)
  const firstBlock = epoch * epochBlocks + slot
  return {
    epoch,
    firstBlock,
    lastBlock: firstBlock + epochBlocks - 1,
    progress: Math.floor(((block - firstBlock) * 1000) / epochBlocks),
  }
}

/** What may be done at a point of the epoch. */
export type EpochWindow = 'early' | 'propose' | 'attest' | 'closed'

/**
 * The window that `progress` (parts per thousand) lies in. Proposing implies attesting: a proposal may be attested from
 * its block on until `attestUntil`.
 */
export function epochWindow(progress: number, windows: SubnetParameters['epoch']): EpochWindow {
  if (progress < windows.proposeFrom) return 'early'
  if (progress < windows.proposeUntil) return 'propose'
  return progress < windows.attestUntil ? 'attest' : 'closed'
}
