import type { Tensor } from '../tensor/tensor.ts'
import { rows } from '../tensor/tensor.ts'
import type { Hop } from './chain-hop.ts'
import { isCallersError } from './chain-hop.ts'
import type { PipelineOptions, PipelineResult } from './pipeline-options.ts'
import { lastWant } from './pipeline-options.ts'
import { cancelled } from './check-step.ts'
import type { PushedStep } from './span-runner.ts'

/**
 * `runThroughHops` over servers that hand their outputs to each other: the client sends each piece to the first hop
 * only and takes the answer of the last one.
 *
 * Every server also sends its output back here, off the way that the answer waits for: it becomes the next hop's
 * history, shows that the server is alive, and is carried on by this client where a link between servers failed.
 * Steps have numbers, so that what comes both ways is taken once.
 *
 * After success some of those outputs may still be on their way (`Hop.settled`); after a failure none is, except
 * from hops that are dead.
 */
export async function pushThroughHops(
  hops: readonly Hop[],
  input: Tensor,
  options: PipelineOptions,
): Promise<PipelineResult> {
  const { chunkTokens, window, want, signal } = options
  const total = input.shape[0]
  const last = hops.length - 1
  const outputs: Tensor[] = []
  /** The steps of pieces that did not come out of the last hop yet, oldest first. */
  const unfinished: (readonly PushedStep[])[] = []
  const underWay = new Set<Promise<void>>()
  let done = 0
  let failure: PipelineResult['failure']

  function fail(error: unknown): void {
    failure ??= { error, fatal: (signal?.aborted ?? false) || isCallersError(error) }
    // What a dead hop did not pass on never comes to the ones behind it; those before it still answer.
    const dead = hops.findIndex((hop) => hop.failure !== undefined)
    const oldest = unfinished[0]
    if (!oldest) return
    for (let i = failure.fatal || dead < 0 ? 0 : dead + 1; i <= last; i++) hops[i]!.forget(oldest[i]!.seq)
  }

  async function runPiece(start: number, end: number): Promise<void> {
    const tokens = end - start
    const inputs: (Tensor | undefined)[] = [rows(input, start, end)]
    const steps = hops.map((hop, i) =>
      hop.push!.begin(tokens, i < last ? 'all' : lastWant(want, end === total)),
    )
    unfinished.push(steps)
    /** Steps that follow the one of hop `i` without the client's help. */
    const onward = (i: number): PushedStep[] => {
      const broken = hops.findIndex((hop, j) => j >= i && !hop.linked)
      return steps.slice(i + 1, broken < 0 ? steps.length : broken + 1)
    }
    const send = (i: number): void => {
      const hidden = inputs[i]
      if (hidden && hops[i]!.failure === undefined) steps[i]!.send(hidden, onward(i))
    }
    hops[0]!.history.append(inputs[0]!)
    send(0)
    let given: Promise<unknown> = Promise.resolve()
    const answers = hops.map((hop, i) => {
      const answer = hop.follow(steps[i]!, { tokens, given, signal, again: () => send(i) })
      if (i === last) return answer
      given = answer.then(({ hidden, pushed }) => {
        inputs[i + 1] = hidden
        hops[i + 1]!.history.append(hidden)
        if (pushed === false) hop.linked = false
        if (pushed !== true) send(i + 1)
        else steps[i + 1]!.given?.(hidden)
        return undefined
      })
      given.catch(fail)
      return answer
    })
    try {
      const { hidden } = await answers[last]!
      // Hops answer in order; a server that does not must not make a hole count as done.
      if (unfinished[0] !== steps) return
      unfinished.shift()
      done = end
      outputs.push(hidden)
    } catch (error) {
      fail(error)
    }
  }

  for (let start = 0; start < total; start += chunkTokens) {
    if (failure || signal?.aborted) break
    const piece = runPiece(start, Math.min(start + chunkTokens, total))
    underWay.add(piece)
    void piece.then(() => underWay.delete(piece))
    if (underWay.size >= window) await Promise.race(underWay)
  }
  await Promise.all(underWay)
  if (done === total) return { done, outputs }
  if (signal?.aborted) fail(cancelled())
  await Promise.all(hops.map((hop) => hop.settled()))
  return failure ? { done, outputs, failure } : { done, outputs }
}
