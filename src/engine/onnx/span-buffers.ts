import type { ModelSpec } from '../../model/spec.ts'
import { biasValues } from './alibi-bias.ts'
import type { BlockInput } from './block-graph.ts'
import { ropeTable, type HeadLayout } from './head-layout.ts'
import type { OrtRuntime, OrtValue } from './ort-runtime.ts'
import { fillerLimit, RUN_ROWS } from './run-shape.ts'

/** What all blocks of a span share: scratch memory and the inputs that are the same in every run. */
export interface SpanBuffers {
  /** Blocks read one and write the other, in turn. */
  readonly hidden: readonly [number, number]
  /** Zeros. */
  readonly filler: number
  /** int32 last, int32 total, int64 rows. */
  readonly scalars: number
  /** ALiBi's bias of a run. */
  readonly bias: number
  /** What a block hands to its experts, and rows on their way through one. */
  readonly experts: { readonly normed: number; readonly router: number; readonly rows: number }
  /** Keys, then values, of one block for a context shorter than heads of this width take. */
  readonly shortCache: number
  readonly shared: Record<Exclude<BlockInput, 'hidden' | 'filler' | 'keys' | 'values' | 'bias'>, OrtValue>
}

/** Allocates and fills them for positions 0 to `positions` - 1. @throws `capacity`. */
export function allocateBuffers(
  runtime: OrtRuntime,
  allocate: (bytes: number) => number,
  spec: ModelSpec,
  layout: HeadLayout,
  positions: number,
): SpanBuffers {
  const { hiddenSize, headCount, kvHeadCount, mlp } = spec
  const room = (values: number): number => (values > 0 ? allocate(values * 4) : 0)
  const constant = (shape: readonly number[], values: Float32Array): OrtValue => {
    const address = room(values.length)
    runtime.floats(address, values.length).set(values)
    return float(address, shape)
  }
  const half = layout.width / 2
  const table = ropeTable(spec, layout, positions)
  const fillerRows = fillerLimit(layout)
  const filler = new Float32Array(fillerRows * (headCount + 2 * kvHeadCount) * layout.width)
  const scalars = allocate(16)
  const experts = mlp.kind === 'moe' ? mlp.expertCount : 0
  const expertRows = experts > 0 ? RUN_ROWS * hiddenSize : 0
  return {
    hidden: [room(RUN_ROWS * hiddenSize), room(RUN_ROWS * hiddenSize)],
    filler: constant([filler.length], filler).address,
    scalars,
    bias: room(biasValues(spec, layout, positions)),
    experts: { normed: room(expertRows), router: room(RUN_ROWS * experts), rows: room(2 * expertRows) },
    shortCache: fillerRows > 1 ? room(2 * (fillerRows + 1) * kvHeadCount * layout.width) : 0,
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
