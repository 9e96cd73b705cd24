import { ChoraleError } from '../errors.ts'
import type { KvLease } from '../kv/lease.ts'
import type { Tensor } from '../tensor/tensor.ts'
import type { StepEntry } from './engine.ts'

/** A step's entry whose lease the span knows as its own and whose rows fit. */
export interface CheckedEntry<Lease> {
  readonly lease: Lease
  /** [1 or more, hiddenSize]. */
  readonly hidden: Tensor
}

/**
 * A step's entries against the leases of one span, before anything is computed. Every engine asks here, so that all
 * refuse the same steps in the same words.
 * @param leases the span's own leases by what it handed out.
 * @throws `bad_request` for a lease of another span, a released one, one that two entries share, or hidden states that
 *   are not [1 or more, hiddenSize]; `capacity` when rows would pass a lease's `maxTokens`.
 */
export function checkEntries<Lease extends KvLease & { readonly released: boolean }>(
  hiddenSize: number,
  leases: { get(key: KvLease): Lease | undefined },
  entries: readonly StepEntry[],
): CheckedEntry<Lease>[] {
  const seen = new Set<Lease>()
  return entries.map(({ lease: key, hidden }) => {
    const lease = leases.get(key)
    if (lease === undefined) throw new ChoraleError('bad_request', 'the KV lease belongs to another span')
    if (lease.released) throw new ChoraleError('bad_request', 'the KV lease was already released')
    if (seen.has(lease)) throw new ChoraleError('bad_request', 'two entries of a step share one KV lease')
    seen.add(lease)
    const [rows, columns] = hidden.shape
    if (rows < 1 || columns !== hiddenSize || hidden.data.length !== rows * columns) {
      throw new ChoraleError(
        'bad_request',
        `hidden states [${rows}, ${columns}]; this model takes [1 or more, ${hiddenSize}]`,
      )
    }
    if (lease.position + rows > lease.maxTokens) {
      throw new ChoraleError(
        'capacity',
        `the session's KV lease of ${lease.maxTokens} tokens is full: it holds ${lease.position} and the step brings ${rows}`,
      )
    }
    return { lease, hidden }
  })
}
