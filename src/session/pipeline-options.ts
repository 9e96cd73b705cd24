import type { Tensor } from '../tensor/tensor.ts'
import type { StepOptions } from './span-runner.ts'

/** How tokens go through a chain's hops. */
export interface PipelineOptions {
  /** Tokens in one piece: one frame on the wire, one step on a server. */
  readonly chunkTokens: number
  /** Most pieces under way at once: bounds what waits at a slow server. */
  readonly window: number
  readonly want: StepOptions['want']
  readonly signal: AbortSignal | undefined
}

/** How far they came. */
export interface PipelineResult {
  /** Leading tokens that went through every hop. */
  readonly done: number
  /** What the last hop returned for them, piece by piece. */
  readonly outputs: readonly Tensor[]
  /** Why the rest did not: some hop is dead now, or (`fatal`) the caller is at fault or stopped. */
  readonly failure?: { readonly error: unknown; readonly fatal: boolean }
}

/** What the last hop is asked for: a caller who wants the last row only needs nothing of the inner pieces. */
export function lastWant(want: StepOptions['want'], isLastPiece: boolean): NonNullable<StepOptions['want']> {
  return want === 'last' && !isLastPiece ? 'none' : (want ?? 'all')
}
