import { createKvRows, eachKvPart, type KvRange, type KvRows } from '../../kv/kv-rows.ts'
import type { KvLease } from '../engine.ts'
import type { HeadLayout } from './head-layout.ts'
import type { KvRegion } from './kv-regions.ts'
import type { OrtRuntime } from './ort-runtime.ts'

/** Where a span's keys and values lie in WebAssembly memory. */
export interface OnnxKvPlaces {
  readonly runtime: OrtRuntime
  readonly start: number
  readonly end: number
  readonly heads: number
  readonly headDim: number
  readonly layout: HeadLayout
  /** Address of one block's keys of a session, [heads, capacity, layout.width]; its values follow. */
  readonly addressOf: (region: KvRegion, block: number) => number
  readonly leases: WeakMap<KvLease, KvRegion>
}

/** The onnx engine's cache as rows: heads apart, and their elements in the order that `headLayout` gives them. */
export function createOnnxKvRows(places: OnnxKvPlaces): KvRows {
  const { runtime, start, end, heads, headDim, layout, addressOf, leases } = places
  const width = heads * headDim

  /** Calls `visit` with each head of each token: the cache, where its slots and its row begin, and the slots' elements. */
  function eachHead(
    region: KvRegion,
    range: KvRange,
    visit: (cache: Float32Array, place: number, at: number, slots: Int32Array) => void,
  ): void {
    eachKvPart(range, width, (block, part, first) => {
      const size = heads * region.capacity * layout.width
      const cache = runtime.floats(addressOf(region, block) + part * size * 4, size)
      const slots = part === 0 ? layout.rotarySlots : layout.valueSlots
      for (let token = range.from; token < range.to; token++) {
        for (let head = 0; head < heads; head++) {
          const place = (head * region.capacity + token) * layout.width
          visit(cache, place, first + (token - range.from) * width + head * headDim, slots)
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
    reserve: () => undefined,
    advance: (region, position) => region.advance(position - region.position),
    read: (region, range, rows) =>
      eachHead(region, range, (cache, place, at, slots) => {
        if (layout.plain) return rows.set(cache.subarray(place, place + headDim), at)
        for (let slot = 0; slot < slots.length; slot++) {
          const element = slots[slot] as number
          if (element >= 0) rows[at + element] = cache[place + slot] as number
        }
      }),
    write: (region, range, rows) =>
      eachHead(region, range, (cache, place, at, slots) => {
        if (layout.plain) return cache.set(rows.subarray(at, at + headDim), place)
        for (let slot = 0; slot < slots.length; slot++) {
          const element = slots[slot] as number
          cache[place + slot] = element >= 0 ? (rows[at + element] as number) : 0
        }
      }),
  })
}
