import type { EngineSpan, KvLease } from '../engine/engine.ts'
import type { Tensor } from '../tensor/tensor.ts'
import { concatRows, rows } from '../tensor/tensor.ts'
import { wantedRows } from './check-step.ts'
import type { PrefixTrail } from './prefix-trail.ts'
import type { StepOptions } from './span-runner.ts'

/** A step that a session asked for. */
export interface Job {
  readonly hidden: Tensor
  readonly want: StepOptions['want']
  readonly signal: AbortSignal | undefined
  readonly outputs: Tensor[]
  /** Rows computed. */
  done: number
  resolve(output: Tensor): void
  reject(error: unknown): void
}

/** A session and its steps, the next one first. */
export interface Line {
  readonly lease: KvLease
  readonly trail: PrefixTrail | undefined
  readonly jobs: Job[]
  /** Tokens of steps that resolved. */
  position: number
  running: boolean
  failure: unknown
  closed: boolean
  /** Called when the call that was running at `close` ended. */
  onIdle?: () => void
}

/** One session's part of one call of the engine. */
export interface Turn {
  readonly line: Line
  /** Rows that no cache has answered. */
  input: Tensor
  readonly outputs: Tensor[]
  failure?: { readonly error: unknown }
}

/** Takes from the cache what it has, and computes the rest of all turns in one call. Never throws. */
export async function computeTurns(span: EngineSpan, turns: readonly Turn[]): Promise<void> {
  try {
    if (turns.some(({ line }) => line.trail)) await Promise.all(turns.map(reuse))
    const missing = turns.filter(({ input }) => input.shape[0] > 0)
    if (missing.length === 0) return
    const outputs = await span.step(missing.map(({ line, input }) => ({ lease: line.lease, hidden: input })))
    for (const [i, { line, input, outputs: all }] of missing.entries()) {
      if (line.trail) await line.trail.finish(input, outputs[i]!)
      all.push(outputs[i]!)
    }
  } catch (error) {
    for (const taken of turns) if (taken.input.shape[0] > 0) taken.failure = { error }
  }
}

async function reuse(taken: Turn): Promise<void> {
  const { line, input, outputs } = taken
  outputs.push(...((await line.trail?.reuse(input)) ?? []))
  const found = outputs.reduce((sum, { shape }) => sum + shape[0], 0)
  taken.input = rows(input, found, input.shape[0])
}

/** Rows of a step still to compute. */
export function remaining(job: Job): number {
  return job.hidden.shape[0] - job.done
}

/** The next rows of a step, at most `maxRows`. */
export function piece(job: Job, maxRows: number): Tensor {
  return rows(job.hidden, job.done, job.done + Math.min(maxRows, remaining(job)))
}

/** What the caller asked for of a step that is done. */
export function wanted(job: Job, hiddenSize: number): Tensor {
  if (job.want === 'none') return { shape: [0, hiddenSize], data: new Float32Array(0) }
  if (job.want === 'last') return wantedRows(job.outputs[job.outputs.length - 1]!, 'last')
  return job.outputs.length === 1 ? job.outputs[0]! : concatRows(job.outputs, hiddenSize)
}
