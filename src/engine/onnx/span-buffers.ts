import type { ModelSpec } from '../../model/spec.ts'
import type { BLOCK_INPUTS } from './block-graph.ts'
import { ropeTable, type HeadLayout } from './head-layout.ts'
import type { OrtRuntime, OrtValue } from './ort-runtime.ts'

/**
 * Rows one run takes; longer steps are cut. Bounds the scores of a run (heads × rows × lease length × 4 bytes)
 * and how long one run blocks the thread. More rows gain nothing: weights are read once for 64.
 */
export const RUN_ROWS = 64

/** A graph input of a block. */
export type BlockInput = (typeof BLOCK_INPUTS)[number]

/** What all blocks of a span share: scratch memory and the inputs that are the same in every run. */
export interface SpanBuffers {
  /** Blocks read one and write the other, in turn. */
  readonly hidden: readonly [number, number]
  readonly filler: number
  /** int32 last, int32 total, int64 rows. */
  readonly scalars: number
  readonly shared: Record<Exclude<BlockInput, 'hidden' | 'filler' | 'keys' | 'values'>, OrtValue>
}

/** Allocates and fills them for positions 0 to `positions` - 1. @throws `capacity`. */
export function allocateBuffers(
  runtime: OrtRuntime,
  allocate: (bytes: number) => number,
  spec: ModelSpec,
  layout: HeadLayout,
  positions: number,
): SpanBuffers {
  const { hiddenSize, headCount, kvHeadCount } = spec
  const constant = (shape: readonly number[], values: Float32Array): OrtValue => {
    const address = allocate(values.byteLength)
    runtime.floats(address, values.length).set(values)
    return float(address, shape)
  }
  const half = layout.width / 2
  const table = ropeTable(spec, layout, positions)
  const filler = new Float32Array((headCount + 2 * kvHeadCount) * layout.width)
  const scalars = allocate(16)
  return {
    hidden: [allocate(RUN_ROWS * hiddenSize * 4), allocate(RUN_ROWS * hiddenSize * 4)],
    filler: constant([filler.length], filler).address,
    scalars,
    shared: {
      last: { type: 'int32', address: scalars, shape: [1] },
      total: { type: 'int32', address: scalars + 4, shape: [] },
      rows: { type: 'int64', address: scalars + 8, shape: [1] },
      cos: constant([positions, half], table.cos),
      sin: constant([positions, half], table.sin),
      sink: constant([headCount], new Float32Array(headCount).fill(-Infinity)),
    },
  }
}

/** A float32 value at `address`. */
export function float(address: number, shape: readonly number[]): OrtValue {
  return { type: 'float', address, shape }
}
