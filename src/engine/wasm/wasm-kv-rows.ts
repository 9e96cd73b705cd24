import { createKvRows, eachKvPart, type KvRange, type KvRows } from '../../kv/kv-rows.ts'
import { advanceTo, PAGE_TOKENS, type PagedLease, reserveTo } from '../../kv/pages.ts'
import type { ModelSpec } from '../../model/spec.ts'
import type { KvLease } from '../engine.ts'
import type { LinearMemory } from './linear-memory.ts'
import { padTo } from './scratch.ts'

/** Where a span's keys and values lie in linear memory. */
export interface WasmKvPlaces {
  readonly memory: LinearMemory
  readonly spec: Pick<ModelSpec, 'kvHeadCount' | 'headDim'>
  readonly start: number
  readonly end: number
  /** Addresses of keys, then values, block by block. */
  readonly caches: readonly number[]
  /** Bytes of each. */
  readonly cacheBytes: number
  readonly leases: WeakMap<KvLease, PagedLease>
}

/**
 * The wasm engine's cache as rows. A page holds keys as [kvHead][dimension][16 tokens] and values as
 * [kvHead][16 tokens][dimension], dimensions padded to a multiple of 4 (`kernels/attention.ts`).
 */
export function createWasmKvRows(places: WasmKvPlaces): KvRows {
  const { memory, spec, start, end, caches, cacheBytes, leases } = places
  const { kvHeadCount, headDim } = spec
  const width = kvHeadCount * headDim
  const dim = padTo(headDim, 4)

  function copy(lease: PagedLease, range: KvRange, rows: Float32Array, toCache: boolean): void {
    eachKvPart(range, width, (block, part, first) => {
      const cache = memory.floats(caches[2 * (block - start) + part] as number, cacheBytes / 4)
      for (let token = range.from; token < range.to; token++) {
        const page = lease.pages[Math.floor(token / PAGE_TOKENS)] as number
        const slot = token % PAGE_TOKENS
        for (let head = 0; head < kvHeadCount; head++) {
          const base = (page * kvHeadCount + head) * dim * PAGE_TOKENS
          const at = first + (token - range.from) * width + head * headDim
          if (part === 1) {
            const place = base + slot * dim
            if (toCache) cache.set(rows.subarray(at, at + headDim), place)
            else rows.set(cache.subarray(place, place + headDim), at)
          } else {
            for (let d = 0, place = base + slot; d < headDim; d++, place += PAGE_TOKENS) {
              if (toCache) cache[place] = rows[at + d] as number
              else rows[at + d] = cache[place] as number
            }
          }
        }
      }
    })
  }

  return createKvRows({
    precision: 'f32',
    width,
    start,
    end,
    leases,
    reserve: reserveTo,
    advance: advanceTo,
    read: (lease, range, rows) => copy(lease, range, rows, false),
    write: (lease, range, rows) => copy(lease, range, rows, true),
  })
}
