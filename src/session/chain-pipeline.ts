import type { Tensor } from '../tensor/tensor.ts'
import { rows } from '../tensor/tensor.ts'
import type { Hop } from './chain-hop.ts'
import { isCallersError } from './chain-hop.ts'
import { cancelled } from './check-step.ts'
import { pushThroughHops } from './push-pipeline.ts'
import type { PipelineOptions, PipelineResult } from './pipeline-options.ts'
import { lastWant } from './pipeline-options.ts'

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
