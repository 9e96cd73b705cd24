import { bytesOf, upload, USAGE } from '../gpu/buffers.ts'
import { type GpuContext, padded } from '../gpu/context.ts'
import { splitCount } from '../gpu/ops/attention.ts'
import type { StepBindings } from '../gpu/ops/rope-kv-write.ts'
import { PAGE_TOKENS, type PagedLease } from '../kv/pages.ts'

/** Uniform and storage bindings start at multiples of this on every device. Source: WebGPU §3.6.2. */
const ALIGNMENT = 256
const ROW_WORDS = 2

/** One token of a step: whose it is and where it goes. */
export interface StepRow {
  readonly lease: PagedLease
  readonly position: number
}

/** The small facts a step tells every kernel, in one buffer and one write: row count, rows, page table. */
export interface StepBuffer {
  readonly bindings: StepBindings
  /** Uploads the facts of these rows. At most the `maxRows` it was made for; not checked. */
  write(rows: readonly StepRow[]): void
}

/** Allocates the step's buffer for at most `maxRows` rows and `pages` pages of cache. */
export async function createStepBuffer(
  context: GpuContext,
  maxRows: number,
  pages: number,
): Promise<StepBuffer> {
  const rowsAt = ALIGNMENT
  const pagesAt = rowsAt + Math.ceil((maxRows * ROW_WORDS * 4) / ALIGNMENT) * ALIGNMENT
  const words = new Uint32Array(padded(pagesAt / 4 + pages))
  const usage = USAGE.uniform | USAGE.storage | USAGE.copyTarget
  const buffer = await context.buffers.create('step', words.byteLength, usage)
  return {
    bindings: {
      count: { buffer, offset: 0, size: 16 },
      rows: { buffer, offset: rowsAt, size: maxRows * ROW_WORDS * 4 },
      pages: { buffer, offset: pagesAt, size: words.byteLength - pagesAt },
    },
    write(rows) {
      const tables = new Map<PagedLease, number>()
      let used = 0
      words[0] = rows.length
      words[1] = longestSplits(rows)
      rows.forEach(({ lease, position }, index) => {
        let table = tables.get(lease)
        if (table === undefined) {
          table = used
          tables.set(lease, table)
          words.set(lease.pages, pagesAt / 4 + table)
          used += lease.pages.length
        }
        words[rowsAt / 4 + index * ROW_WORDS] = position
        words[rowsAt / 4 + index * ROW_WORDS + 1] = table
      })
      upload(context.device, buffer, 0, bytesOf(words.subarray(0, padded(pagesAt / 4 + used))))
    },
  }
}

/** Splits of the keys of the longest of these rows. */
export function longestSplits(rows: readonly StepRow[]): number {
  return rows.reduce((most, { position }) => Math.max(most, splitCount(position + 1)), 1)
}

/**
 * How many of `rows`, from `first` on, one submit computes: at most `maxRows`, and so many that their partial
 * attention results take at most `slots` (row, split) pairs; one always.
 */
export function rowsOfSubmit(
  rows: readonly StepRow[],
  first: number,
  maxRows: number,
  slots: number,
): number {
  let splits = 1
  let count = 0
  while (count < maxRows && first + count < rows.length) {
    splits = Math.max(splits, splitCount((rows[first + count] as StepRow).position + 1))
    if (count > 0 && (count + 1) * splits > slots) break
    count++
  }
  return count
}

/** Pages that hold `tokens` tokens. */
export function pageCount(tokens: number): number {
  return Math.ceil(tokens / PAGE_TOKENS)
}
