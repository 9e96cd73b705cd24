import { sha256 } from '@noble/hashes/sha2.js'
import { bytesToHex, concatBytes } from '@noble/hashes/utils.js'
import type { KvLease } from '../engine/engine.ts'
import type { PrefixCache } from '../kv/prefix-cache.ts'
import { type Tensor, tensor } from '../tensor/tensor.ts'

/**
 * What one session of a span has in common with others: names each of its pages by a chained SHA-256 of the input rows
 * from its first token on, so equal names mean equal bits in the cache and equal outputs, by the engine's invariant.
 *
 * Calls come one at a time, never during a step of the lease: `reuse`, the engine's step for the rest, `finish`.
 */
export interface PrefixTrail {
  /** Tokens that the cache answered so far. */
  readonly reusedTokens: number
  /**
   * Takes the outputs of the first rows of `hidden` from the cache, page by page; the lease's position moves on by
   * as many. Single tokens are never looked up. @param hidden [tokens, hiddenSize], the session's next inputs. @returns outputs in order, copies.
   */
  reuse(hidden: Tensor): Promise<Tensor[]>
  /** Keeps the pages that a step completed. @param hidden the rows that `reuse` left over; the lease has advanced. */
  finish(hidden: Tensor, output: Tensor): Promise<void>
  /** The lease was rolled back to `position`. */
  rollback(position: number): void
}

/** Starts the trail of a session that holds no tokens yet. */
export function createPrefixTrail(cache: PrefixCache, lease: KvLease, hiddenSize: number): PrefixTrail {
  const { pageTokens } = cache
  const pageSize = pageTokens * hiddenSize
  /** Rows of the page that is not full yet and of the one before it, for rollbacks of wrong guesses: even pages first. */
  const inputs = new Float32Array(2 * pageSize)
  const outputs = new Float32Array(2 * pageSize)
  /** First token of those rows. */
  let firstRow = 0
  /** Chained digests of the full pages. */
  const links: Uint8Array[] = []
  /** Tokens followed. When the lease is elsewhere (after a rollback far back, say), it isn't followed. */
  let position = 0
  let reusedTokens = 0
  /** Digests of the pages that the rows under way complete. */
  let digests: Promise<Uint8Array>[] = []

  const filled = (): number => position - links.length * pageTokens
  /** The rows of the page that is not full yet. */
  const current = (rows: Float32Array): Float32Array => {
    const from = (links.length % 2) * pageSize
    return rows.subarray(from, from + pageSize)
  }

  /** Digests of the pages that `hidden` completes, computed side by side. */
  function digestPages({ data }: Tensor): Promise<Uint8Array>[] {
    const pending: Promise<Uint8Array>[] = []
    let from = filled() * hiddenSize
    for (let taken = 0; taken + pageSize - from <= data.length; from = 0) {
      const page = current(inputs).slice()
      page.set(data.subarray(taken, taken + pageSize - from), from)
      taken += pageSize - from
      pending.push(digestOf(new Uint8Array(page.buffer)))
    }
    return pending
  }

  /** The name of the page after the full ones, whose own digest is the first that is pending. */
  async function nextLink(): Promise<Uint8Array> {
    return sha256(concatBytes(links.at(-1) ?? new Uint8Array(32), (await digests[0]) as Uint8Array))
  }

  function follow(link: Uint8Array): void {
    links.push(link)
    digests = digests.slice(1)
    position = links.length * pageTokens
  }

  return {
    get reusedTokens() {
      return reusedTokens
    },
    async reuse(hidden) {
      digests = position === lease.position ? digestPages(hidden) : []
      const found: Tensor[] = []
      // Decoding is left alone: one token in 16 could be found, and its pace would tell what others asked.
      while (digests.length > 0 && hidden.shape[0] > 1) {
        const link = await nextLink()
        const output = cache.attach(lease, links.length, bytesToHex(link))
        if (output === undefined) break
        const first = filled()
        found.push(tensor(pageTokens - first, hiddenSize, output.slice(first * hiddenSize)))
        reusedTokens += pageTokens - first
        follow(link)
        firstRow = position
      }
      return found
    },
    async finish(hidden, output) {
      const count = hidden.shape[0]
      if (position + count !== lease.position) return
      for (let row = 0; row < count;) {
        const first = filled()
        const taken = Math.min(pageTokens - first, count - row)
        const [from, to] = [row * hiddenSize, (row + taken) * hiddenSize]
        current(inputs).set(hidden.data.subarray(from, to), first * hiddenSize)
        current(outputs).set(output.data.subarray(from, to), first * hiddenSize)
        firstRow = Math.max(firstRow, (links.length - 1) * pageTokens)
        row += taken
        if (first + taken < pageTokens) position += taken
        else {
          const link = await nextLink()
          if (!cache.keep(lease, links.length, bytesToHex(link), current(outputs).slice())) return
          follow(link)
        }
      }
    },
    rollback(target) {
      if (target >= position) return
      links.length = Math.floor(target / pageTokens)
      const start = links.length * pageTokens
      position = start >= firstRow ? target : start
      firstRow = Math.min(firstRow, start)
    },
  }
}

/** SHA-256 of a page's rows: the platform's, seven times faster and off this thread, where pages may use it. */
async function digestOf(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array> {
  // Only undefined outside secure contexts, whatever its type says.
  const subtle = crypto.subtle as SubtleCrypto | undefined
  try {
    if (subtle !== undefined) return new Uint8Array(await subtle.digest('SHA-256', bytes))
  } catch {
    // Below.
  }
  return sha256(bytes)
}
