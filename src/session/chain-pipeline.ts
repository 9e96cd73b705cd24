import type { Tensor } from '../tensor/tensor.ts'
import { rows } from '../tensor/tensor.ts'
import type { Hop } from './chain-hop.ts'
import { isCallersError } from './chain-hop.ts'
import { cancelled } from './check-step.ts'
import { pushThroughHops } from './push-pipeline.ts'
import type { StepOptions } from './span-runner.ts'

export interface PipelineOptions {
  /** Tokens in one piece: one frame on the wire, one step on a server. */
  readonly chunkTokens: number
  /** Most pieces under way at once: bounds what waits at a slow server. */
  readonly window: number
  readonly want: StepOptions['want']
  readonly signal: AbortSignal | undefined
}

export interface PipelineResult {
  /** Leading tokens that went through every hop. */
  readonly done: number
  /** What the last hop returned for them, piece by piece. */
  readonly outputs: readonly Tensor[]
  /** Why the rest did not: some hop is dead now, or (`fatal`) the caller is at fault or stopped. */
  readonly failure?: { readonly error: unknown; readonly fatal: boolean }
}

/**
 * Sends `input` [tokens, hiddenSize] through the hops in pieces that follow each other like a convoy: while hop 2
 * works on the first piece, hop 1 works on the second. Every hop's inputs are added to its history. Where servers
 * can push, a piece goes from one to the next directly.
 *
 * Never throws: after a failure it waits until nothing is under way any more and says how far it came. Histories
 * and servers may then be ahead of `done`; the caller rolls them back.
 */
export async function runThroughHops(
  hops: readonly Hop[],
  input: Tensor,
  options: PipelineOptions,
): Promise<PipelineResult> {
  if (hops.every(({ push }) => push !== undefined && push.maxStepTokens >= options.chunkTokens)) {
    return await pushThroughHops(hops, input, options)
  }
  return await carryThroughHops(hops, input, options)
}

/** Every piece goes from hop to hop through this client. */
async function carryThroughHops(
  hops: readonly Hop[],
  input: Tensor,
  options: PipelineOptions,
): Promise<PipelineResult> {
  const { chunkTokens, window, want, signal } = options
  const total = input.shape[0]
  const outputs: Tensor[] = []
  let done = 0
  let failure: PipelineResult['failure']
  /** Resolves when the piece before was handed to hop i. */
  let turns: Promise<void>[] = hops.map(() => Promise.resolve())
  const underWay = new Set<Promise<void>>()

  async function runPiece(start: number, end: number, mine: readonly Promise<void>[], pass: (() => void)[]) {
    let piece = rows(input, start, end)
    try {
      for (const [i, hop] of hops.entries()) {
        await mine[i]
        if (failure) return
        if (signal?.aborted) throw cancelled()
        hop.history.append(piece)
        const work = hop.step(piece, i < hops.length - 1 ? 'all' : lastWant(want, end === total), signal)
        pass[i]!()
        piece = await work
      }
      // Hops answer in order; a server that does not must not make a hole count as done.
      if (start !== done) return
      done = end
      outputs.push(piece)
    } catch (error) {
      failure ??= { error, fatal: (signal?.aborted ?? false) || isCallersError(error) }
    } finally {
      for (const next of pass) next()
    }
  }

  for (let start = 0; start < total && !failure; start += chunkTokens) {
    const mine = turns
    const gates = hops.map(() => Promise.withResolvers<void>())
    turns = gates.map((gate) => gate.promise)
    const piece = runPiece(
      start,
      Math.min(start + chunkTokens, total),
      mine,
      gates.map((gate) => gate.resolve),
    )
    underWay.add(piece)
    void piece.then(() => underWay.delete(piece))
    if (underWay.size >= window) await Promise.race(underWay)
  }
  await Promise.all(underWay)
  return failure ? { done, outputs, failure } : { done, outputs }
}

/** What the last hop is asked for: a caller who wants the last row only needs nothing of the inner pieces. */
export function lastWant(want: StepOptions['want'], isLastPiece: boolean): NonNullable<StepOptions['want']> {
  return want === 'last' && !isLastPiece ? 'none' : (want ?? 'all')
}
