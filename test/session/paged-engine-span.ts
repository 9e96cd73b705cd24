import { checkEntries } from '../../src/engine/check-entries.ts'
import type { EngineSpan, KvLease } from '../../src/engine/engine.ts'
import { PAGE_TOKENS, PagePool, type PagedLease } from '../../src/kv/pages.ts'
import { type Tensor, tensor } from '../../src/tensor/tensor.ts'

/** An engine without a model whose cache has pages, and what it was asked to do. */
export interface PagedEngineSpan extends EngineSpan {
  /** Rows computed so far. */
  readonly computedRows: number
  /** Pages copied so far. */
  readonly copies: number
  /** The next call of the engine fails after it has written to the cache. */
  failNext(): void
}

/**
 * Each token's output depends on every row of the cache before it, in order, read through the page table: a page that
 * was lost, mixed up or written to by another session shows in every token behind it.
 */
export function createPagedEngineSpan(kvTokens: number): PagedEngineSpan {
  const pool = new PagePool(kvTokens)
  const cells = new Float64Array(pool.tokens).fill(-1)
  const leases = new WeakMap<KvLease, PagedLease>()
  let computedRows = 0
  let copies = 0
  let failing = false
  const rowOf = ({ pages }: PagedLease, token: number): number =>
    (pages[Math.floor(token / PAGE_TOKENS)] as number) * PAGE_TOKENS + (token % PAGE_TOKENS)

  function compute(lease: PagedLease, { data, shape }: Tensor): Tensor {
    const [tokens, columns] = shape
    const out = new Float32Array(data.length)
    for (let t = 0; t < tokens; t++) {
      let own = 7
      for (let c = 0; c < columns; c++)
        own = (own * 31 + Math.round((data[t * columns + c] as number) * 64)) % 8191
      cells[rowOf(lease, lease.position + t)] = own
      let mix = 1
      for (let j = 0; j <= lease.position + t; j++)
        mix = (mix * 31 + (cells[rowOf(lease, j)] as number)) % 8191
      for (let c = 0; c < columns; c++) out[t * columns + c] = (mix * (c + 3)) % 8191
    }
    return tensor(tokens, columns, out)
  }

  return {
    start: 0,
    end: 1,
    weightBytes: 0,
    kvBytes: 0,
    kvTokens: pool.tokens,
    get kvTokensFree() {
      return pool.freeTokens
    },
    get computedRows() {
      return computedRows
    },
    get copies() {
      return copies
    },
    failNext() {
      failing = true
    },
    lease(maxTokens) {
      const lease = pool.lease(maxTokens)
      leases.set(lease, lease)
      return lease
    },
    sharedPages: pool.share((from, to) => {
      copies++
      cells.copyWithin(to * PAGE_TOKENS, from * PAGE_TOKENS, (from + 1) * PAGE_TOKENS)
    }),
    async step(entries) {
      const checked = checkEntries(entries[0]?.hidden.shape[1] ?? 1, leases, entries)
      for (const { lease, hidden } of checked) lease.reserve(hidden.shape[0])
      await Promise.resolve()
      const outputs = checked.map(({ lease, hidden }) => compute(lease, hidden))
      if (failing) {
        failing = false
        // Half-way: the first entry counts as written, the others don't.
        checked[0]?.lease.advance(checked[0].hidden.shape[0])
        throw new Error('device lost')
      }
      for (const { lease, hidden } of checked) {
        lease.advance(hidden.shape[0])
        computedRows += hidden.shape[0]
      }
      return outputs
    },
    close: async () => undefined,
  }
}
