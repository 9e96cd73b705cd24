import { ChoraleError } from '../errors.ts'
import { bytesOf, upload, USAGE } from '../gpu/buffers.ts'
import type { GpuContext } from '../gpu/context.ts'
import {
  cacheDim,
  type HeadShape,
  KV_BYTES,
  type KvBuffers,
  kvValuesPerToken,
} from '../gpu/ops/rope-kv-write.ts'
import { createKvRows, eachKvPart, type KvRange, type KvRows } from '../kv/kv-rows.ts'
import { advanceTo, PAGE_TOKENS, type PagedLease, reserveTo } from '../kv/pages.ts'
import { f16ToF32, f32ToF16 } from '../tensor/dtype.ts'
import type { KvLease } from './engine.ts'

/** Where a span's keys and values lie on the GPU. */
export interface WgslKvPlaces {
  readonly context: GpuContext
  readonly heads: HeadShape
  readonly start: number
  readonly end: number
  /** One entry a block. */
  readonly caches: readonly KvBuffers[]
  readonly leases: WeakMap<KvLease, PagedLease>
}

/**
 * The wgsl engine's cache as rows; `shaders/lib/kv_page.wgsl` says what lies where. Whole pages are copied: a range that is
 * written must begin where a page does.
 */
export function createWgslKvRows(places: WgslKvPlaces): KvRows {
  const { context, heads, start, end, caches, leases } = places
  const { kvHeadCount, headDim } = heads
  const width = kvHeadCount * headDim
  const dims = cacheDim(heads)
  const precision = caches[0]?.format ?? 'f32'
  /** Of keys, or of values, of one block. */
  const pageValues = PAGE_TOKENS * kvValuesPerToken(heads)
  const pageBytes = pageValues * KV_BYTES[precision]

  const bufferOf = (block: number, part: 0 | 1): GPUBuffer => {
    const cache = caches[block - start] as KvBuffers
    return part === 0 ? cache.keys : cache.values
  }
  /** First and last page of a range. */
  const pagesOf = ({ from, to }: KvRange): [number, number] => [
    Math.floor(from / PAGE_TOKENS),
    Math.floor((to - 1) / PAGE_TOKENS),
  ]
  /** Where element d of a token's head lies in a page. */
  const placeOf = (part: 0 | 1, token: number, head: number, d: number): number => {
    const slot = token % PAGE_TOKENS
    return part === 1
      ? (head * PAGE_TOKENS + slot) * dims + d
      : (((head * dims) / 4 + Math.floor(d / 4)) * PAGE_TOKENS + slot) * 4 + (d % 4)
  }
  /** Calls `visit` with where each value lies in a page, and in a part's rows. */
  function eachValue(
    { from, to }: KvRange,
    page: number,
    part: 0 | 1,
    visit: (place: number, at: number) => void,
  ): void {
    const last = Math.min(to, (page + 1) * PAGE_TOKENS)
    for (let token = Math.max(from, page * PAGE_TOKENS); token < last; token++) {
      for (let head = 0; head < kvHeadCount; head++) {
        const row = (token - from) * width + head * headDim
        for (let d = 0; d < headDim; d++) visit(placeOf(part, token, head, d), row + d)
      }
    }
  }

  async function read(lease: PagedLease, range: KvRange, rows: Float32Array): Promise<void> {
    const { device, buffers } = context
    const [first, last] = pagesOf(range)
    const parts: { readonly page: number; readonly part: 0 | 1; readonly at: number }[] = []
    const bytes = 2 * (range.end - range.start) * (last - first + 1) * pageBytes
    const staging = await buffers.create('pages handed over', bytes, USAGE.mapRead | USAGE.copyTarget)
    try {
      device.check()
      // From here to the submit nothing else runs: pages that a rollback gave up meanwhile may be another session's.
      if (lease.released || lease.position < range.to) {
        throw new ChoraleError('bad_request', `token ${range.to} of a session that holds ${lease.position}`)
      }
      const pages = lease.pages.slice(first, last + 1)
      const encoder = device.raw.createCommandEncoder()
      eachKvPart(range, width, (block, part, at) => {
        for (const [i, page] of pages.entries()) {
          const to = parts.length * pageBytes
          encoder.copyBufferToBuffer(bufferOf(block, part), page * pageBytes, staging, to, pageBytes)
          parts.push({ page: first + i, part, at })
        }
      })
      device.raw.queue.submit([encoder.finish()])
      await staging.mapAsync(USAGE.mapRead)
      const copy = new Uint8Array(staging.getMappedRange().slice(0))
      for (const [i, { page, part, at }] of parts.entries()) {
        const raw = copy.subarray(i * pageBytes, (i + 1) * pageBytes)
        const values =
          precision === 'f16' ? f16ToF32(raw) : new Float32Array(copy.buffer, i * pageBytes, pageValues)
        eachValue(range, page, part, (place, row) => {
          rows[at + row] = values[place] as number
        })
      }
    } catch (error) {
      throw error instanceof ChoraleError ? error : device.explain(error)
    } finally {
      buffers.destroy(staging)
    }
  }

  function write(lease: PagedLease, range: KvRange, rows: Float32Array): void {
    if (range.from % PAGE_TOKENS !== 0) {
      throw new ChoraleError(
        'not_supported',
        `engine wgsl takes whole pages of ${PAGE_TOKENS} tokens, not tokens from ${range.from} on`,
      )
    }
    const { device } = context
    device.check()
    const [first, last] = pagesOf(range)
    eachKvPart(range, width, (block, part, at) => {
      for (let page = first; page <= last; page++) {
        const values = new Float32Array(pageValues)
        eachValue(range, page, part, (place, row) => {
          values[place] = rows[at + row] as number
        })
        const bytes = precision === 'f16' ? f32ToF16(values) : bytesOf(values)
        upload(device, bufferOf(block, part), (lease.pages[page] as number) * pageBytes, bytes)
      }
    })
  }

  return createKvRows({
    precision,
    width,
    start,
    end,
    leases,
    reserve: reserveTo,
    advance: advanceTo,
    read,
    write,
  })
}
