import type { OrtRuntime, OrtValue } from './ort-runtime.ts'
import type { RunShape } from './run-shape.ts'
import { float } from './span-buffers.ts'

/** Where one block's keys of one session lie, [heads, capacity, width]; its values follow. */
export interface CachePlace {
  readonly address: number
  readonly heads: number
  readonly capacity: number
  readonly width: number
}

/** Keys and values for one run of a block, read and appended to in place. */
export interface BlockCache {
  readonly keys: OrtValue
  readonly values: OrtValue
  /** To be called after the run. */
  keep(): void
}

/**
 * The cache for a run of `shape`. A run whose filler has no room in the session's own place gets the one at
 * `shortCache` (2 * heads * total rows), with what the session holds copied there, and `keep` copies new rows back.
 */
export function openBlockCache(
  runtime: OrtRuntime,
  place: CachePlace,
  shape: RunShape,
  shortCache: number,
): BlockCache {
  const { heads, capacity, width } = place
  if (shape.total <= capacity) {
    return { ...keysAndValues(place), keep: () => undefined }
  }
  const short = { ...place, address: shortCache, capacity: shape.total }
  const rowBytes = width * 4
  const copy = (target: CachePlace, source: CachePlace, row: number, rows: number): void => {
    for (let head = 0; head < 2 * heads; head++) {
      runtime.move(
        target.address + (head * target.capacity + row) * rowBytes,
        source.address + (head * source.capacity + row) * rowBytes,
        rows * rowBytes,
      )
    }
  }
  copy(short, place, 0, shape.position)
  return {
    ...keysAndValues(short),
    keep: () => copy(place, short, shape.position, shape.rows),
  }
}

function keysAndValues({ address, heads, capacity, width }: CachePlace): {
  keys: OrtValue
  values: OrtValue
} {
  const shape = [1, heads, capacity, width]
  return { keys: float(address, shape), values: float(address + heads * capacity * width * 4, shape) }
}
