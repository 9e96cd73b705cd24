import { ChoraleError } from '../../errors.ts'
import type { Logger } from '../../log.ts'
import type { LedgerCall, LedgerSigner, Submitted, SubmitOptions } from '../ledger.ts'
import { createAccountTurns, type SendingAccount } from './account-turns.ts'
import type { Blocks } from './blocks.ts'
import { assertFits, encodeCall, fakeExtrinsic, signExtrinsic } from './extrinsic.ts'
import type { Header } from './header.ts'
import { nextNonce } from './nonces.ts'
import { type PendingTransaction, pendingTransaction } from './pending-transaction.ts'
import { nonceTaken, refusal } from './pool-refusal.ts'
import type { Node } from './reconnecting.ts'
import type { Runtimes } from './runtimes.ts'
import { transactionFee } from './transaction-fee.ts'
import { createTransactionWatch } from './transaction-watch.ts'

/** Sends calls: numbers those of one account, and finds each in a block. */
export interface Sender {
  submit(call: LedgerCall, signer: LedgerSigner, options?: SubmitOptions): Promise<Submitted>
  fee(call: LedgerCall, signer: LedgerSigner): Promise<bigint>
  close(): void
}

/** Transactions under way at once; defends memory when a chain stands still. */
const MAX_PENDING = 4096
/** Fresh nonces tried when others use the same account at the same time. */
const NONCE_TRIES = 16
/** A finalized block this far behind the best one is too old to begin an era. */
const MAX_LAG = 32

/** Sends through `node`, and looks for what was sent in the blocks that follow. */
export function createSender(
  node: Node,
  runtimes: Runtimes,
  blocks: Blocks,
  genesisHash: string,
  log: Logger,
): Sender {
  const accounts = createAccountTurns()
  const pending = new Set<PendingTransaction>()
  const watch = createTransactionWatch({ node, runtimes, blocks, pending, accounts, log })
  let closed = false

  async function submit(
    call: LedgerCall,
    signer: LedgerSigner,
    { until = 'block', signal }: SubmitOptions = {},
  ): Promise<Submitted> {
    if (closed) throw new ChoraleError('cancelled', 'the ledger connection was closed')
    if (pending.size >= MAX_PENDING) {
      throw new ChoraleError('capacity', `${MAX_PENDING} transactions wait for blocks: try again later`)
    }
    assertFits(runtimes.current, signer)
    encodeCall(runtimes.current, call)
    const handed = await accounts.take(signer.address, (account) =>
      handOver(account, call, signer, until, signal),
    )
    return await handed.done
  }

  /** Signs with the next nonce and hands over. Wrapped, so that the account's turn does not wait for the block. */
  async function handOver(
    account: SendingAccount,
    call: LedgerCall,
    signer: LedgerSigner,
    wanted: 'block' | 'finalized',
    signal: AbortSignal | undefined,
  ): Promise<{ readonly done: Promise<Submitted> }> {
    for (let tries = 1; ; tries++) {
      if (signal?.aborted === true) throw cancelled()
      const nonce = free(signer.address, account.next ?? (await nextNonce(node, signer.address, signal)))
      const codec = await runtimes.at()
      const signed = await signExtrinsic(codec, encodeCall(codec, call), signer, {
        nonce,
        genesisHash,
        birth: birth(),
      })
      // From here on the call may reach the chain: it is looked for before anything else is sent in its place.
      const offeredAt = blocks.best.number
      const { one, done } = pendingTransaction({ signed, account: signer.address, wanted, offeredAt }, signal)
      pending.add(one)
      account.next = nonce + 1
      const refused = await watch.offer(one, false)
      if (refused === undefined) return { done }
      account.next = undefined
      pending.delete(one)
      if (tries < NONCE_TRIES && nonceTaken(refused)) {
        log.debug('nonce taken by another sender', { account: signer.address, nonce })
        continue
      }
      // Refused by a runtime that came while this one was signed for the one before: said again in its terms.
      const newer = await runtimes.refresh().catch(() => codec)
      if (tries < NONCE_TRIES && newer !== codec) continue
      throw refusal(refused)
    }
  }

  /** The smallest nonce from `from` on that no transaction under way holds. */
  function free(address: string, from: number): number {
    const taken = new Set(
      [...pending].filter((one) => one.account === address).map((one) => one.signed.nonce),
    )
    let nonce = from
    while (taken.has(nonce)) nonce++
    return nonce
  }

  /** Eras begin at a final block where one is near: a reorg can't make the transaction invalid then. */
  function birth(): Header {
    const { best, finalized } = blocks
    return best.number - finalized.number > MAX_LAG ? best : finalized
  }

  async function fee(call: LedgerCall, signer: LedgerSigner): Promise<bigint> {
    const codec = runtimes.current
    assertFits(codec, signer)
    const bytes = fakeExtrinsic(codec, encodeCall(codec, call), signer.address, {
      nonce: await nextNonce(node, signer.address, undefined),
      genesisHash,
      birth: birth(),
    })
    return await transactionFee(node, bytes)
  }

  const stopWatch = watch.start()

  return {
    submit,
    fee,
    close: () => {
      closed = true
      stopWatch()
      for (const one of pending) {
        one.reject(
          new ChoraleError(
            'cancelled',
            `the ledger connection was closed; the call may still be included until block ${one.signed.until}`,
          ),
        )
      }
      pending.clear()
    },
  }
}

function cancelled(): ChoraleError {
  return new ChoraleError('cancelled', 'cancelled before the call was sent')
}
