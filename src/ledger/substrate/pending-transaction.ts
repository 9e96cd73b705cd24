import { ChoraleError } from '../../errors.ts'
import type { Submitted } from '../ledger.ts'
import type { SignedExtrinsic } from './extrinsic.ts'
import type { RpcError } from './json-rpc.ts'

/** Where a transaction is: the block, and its index among the block's extrinsics. */
export interface Place {
  readonly number: number
  readonly hash: string
  readonly index: number
}

/** A signed transaction on its way. The same bytes may be sent again and again: a chain takes a nonce once. */
export interface PendingTransaction {
  readonly signed: SignedExtrinsic
  readonly account: string
  readonly wanted: 'block' | 'finalized'
  included: Place | undefined
  /** Number of the block seen when it was last offered to the node. */
  offeredAt: number
  /** The node's last reason for not taking it. */
  complaint: RpcError | undefined
  readonly resolve: (submitted: Submitted) => void
  readonly reject: (error: Error) => void
}

/** A transaction that is in no block yet. @returns it, and what it comes to; `signal` ends the waiting, not the transaction. */
export function pendingTransaction(
  known: Pick<PendingTransaction, 'signed' | 'account' | 'wanted' | 'offeredAt'>,
  signal: AbortSignal | undefined,
): { readonly one: PendingTransaction; readonly done: Promise<Submitted> } {
  let settle: Pick<PendingTransaction, 'resolve' | 'reject'> | undefined
  const done = new Promise<Submitted>((resolve, reject) => (settle = { resolve, reject }))
  const one: PendingTransaction = {
    ...known,
    included: undefined,
    complaint: undefined,
    resolve: (submitted) => settle?.resolve(submitted),
    reject: (error) => settle?.reject(error),
  }
  // Whoever waits comes later: what is decided before must not count as nobody's failure.
  done.catch(() => undefined)
  // An aborted call stays tracked: its nonce is in use until a block or the end of its era decides.
  const stop = (): void => one.reject(stopped(one.signed.until))
  signal?.addEventListener('abort', stop, { once: true })
  const forget = (): void => signal?.removeEventListener('abort', stop)
  done.then(forget, forget)
  return { one, done }
}

function stopped(until: number): ChoraleError {
  return new ChoraleError('cancelled', `stopped waiting; the call may still be included until block ${until}`)
}
