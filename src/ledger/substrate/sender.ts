import { ChoraleError, errorMessage } from '../../errors.ts'
import type { Logger } from '../../log.ts'
import type { LedgerCall, LedgerEvent, LedgerSigner, Submitted, SubmitOptions } from '../ledger.ts'
import type { Blocks } from './blocks.ts'
import { failureOf } from './dispatch-error.ts'
import {
  assertFits,
  encodeCall,
  ERA_BLOCKS,
  extrinsicHash,
  fakeExtrinsic,
  signExtrinsic,
  type SignedExtrinsic,
} from './extrinsic.ts'
import type { Header } from './header.ts'
import { isRecord, RpcError } from './json-rpc.ts'
import { nextNonce, nonceAtBlock } from './nonces.ts'
import { ALREADY_IMPORTED, BANNED, nonceTaken, refusal } from './pool-refusal.ts'
import type { Node } from './reconnecting.ts'
import type { Runtimes } from './runtimes.ts'
import { transactionFee } from './transaction-fee.ts'

/** Sends calls: numbers those of one account, and finds each in a block. */
export interface Sender {
  submit(call: LedgerCall, signer: LedgerSigner, options?: SubmitOptions): Promise<Submitted>
  fee(call: LedgerCall, signer: LedgerSigner): Promise<bigint>
  close(): void
}

/** A signed transaction on its way. The same bytes may be sent again and again: a chain takes a nonce once. */
interface Pending {
  readonly signed: SignedExtrinsic
  readonly account: string
  readonly wanted: 'block' | 'finalized'
  included: { readonly number: number; readonly hash: string; readonly index: number } | undefined
  /** Number of the block seen when it was last offered to the node. */
  offeredAt: number
  /** The node's last reason for not taking it. */
  complaint: RpcError | undefined
  readonly resolve: (submitted: Submitted) => void
  readonly reject: (error: Error) => void
}

interface Account {
  /** Nonce of the next call; undefined = ask the chain. */
  next: number | undefined
  /** Calls are signed and handed over one after the other. */
  turn: Promise<void>
}

/** Transactions under way at once; defends memory when a chain stands still. */
const MAX_PENDING = 4096
/** Blocks without a transaction after which it is offered again: a node may have lost its pool. */
const OFFER_AGAIN = 3
/** Fresh nonces tried when others use the same account at the same time. */
const NONCE_TRIES = 16
/** A finalized block this far behind the best one is too old to begin an era. */
const MAX_LAG = 32

/** How often calls without an answer are looked after while no block comes, in milliseconds. */
const NUDGE_MS = 500

/** Sends through `node`, and looks for what was sent in the blocks that follow. */
export function createSender(
  node: Node,
  runtimes: Runtimes,
  blocks: Blocks,
  genesisHash: string,
  log: Logger,
): Sender {
  const accounts = new Map<string, Account>()
  const pending = new Set<Pending>()
  let lastHead: string | undefined
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
    const account = accountOf(signer.address)
    const mine = account.turn.then(() => handOver(account, call, signer, until, signal))
    account.turn = mine.then(
      () => undefined,
      () => undefined,
    )
    return (await mine).done
  }

  function accountOf(address: string): Account {
    let account = accounts.get(address)
    if (account === undefined) {
      account = { next: undefined, turn: Promise.resolve() }
      accounts.set(address, account)
    }
    return account
  }

  /** Signs with the next nonce and hands over. Wrapped, so that the account's turn does not wait for the block. */
  async function handOver(
    account: Account,
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
      const { one, done } = track(signed, signer.address, wanted, signal)
      account.next = nonce + 1
      const refused = await offer(one, false)
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

  function track(
    signed: SignedExtrinsic,
    account: string,
    wanted: 'block' | 'finalized',
    signal: AbortSignal | undefined,
  ): { readonly one: Pending; readonly done: Promise<Submitted> } {
    let settle: Pick<Pending, 'resolve' | 'reject'> | undefined
    const done = new Promise<Submitted>((resolve, reject) => (settle = { resolve, reject }))
    const one: Pending = {
      signed,
      account,
      wanted,
      included: undefined,
      offeredAt: blocks.best.number,
      complaint: undefined,
      resolve: (submitted) => settle?.resolve(submitted),
      reject: (error) => settle?.reject(error),
    }
    pending.add(one)
    // Whoever waits comes later: what is decided before must not count as nobody's failure.
    done.catch(() => undefined)
    // An aborted call stays tracked: its nonce is in use until a block or the end of its era decides.
    const stop = (): void => one.reject(stopped(signed.until))
    signal?.addEventListener('abort', stop, { once: true })
    const forget = (): void => signal?.removeEventListener('abort', stop)
    done.then(forget, forget)
    return { one, done }
  }

  /** Sends the bytes. @returns the node's refusal; undefined when the node has them, or can't be asked now. */
  async function offer(one: Pending, again = true): Promise<RpcError | undefined> {
    one.offeredAt = blocks.best.number
    try {
      await node.callOnce('author_submitExtrinsic', [one.signed.hex])
      one.complaint = undefined
    } catch (error) {
      // Bytes never sent before that the node has already are another client's same call.
      if (error instanceof RpcError) return again && error.rpcCode === ALREADY_IMPORTED ? undefined : error
      // No answer says nothing: it may or may not have arrived. Blocks will tell.
      log.debug('no answer to a transaction', { reason: errorMessage(error) })
      one.offeredAt = -Infinity
    }
    return undefined
  }

  /** Hashes of a block's extrinsics, in order. */
  async function hashesIn(blockHash: string): Promise<string[]> {
    const block = await node.ask('chain_getBlock', [blockHash])
    const inside = isRecord(block) && isRecord(block['block']) ? block['block']['extrinsics'] : undefined
    return Array.isArray(inside) ? inside.map(extrinsicHash) : []
  }

  /** Looks for transactions in a new block, then after those that are overdue. */
  async function look(head: Header): Promise<void> {
    if (head.parentHash !== lastHead) {
      // On another branch calls that were in blocks may be in none: their numbers are the next ones again.
      for (const account of accounts.values()) account.next = undefined
    }
    lastHead = head.hash
    if (pending.size === 0) return
    const hashes = await hashesIn(head.hash)
    for (const one of pending) {
      const index = hashes.indexOf(one.signed.hash)
      if (index >= 0) await include(one, { number: head.number, hash: head.hash, index })
      else if (one.included !== undefined && one.included.number >= head.number) one.included = undefined
    }
    for (const one of pending) if (one.included === undefined) await chase(one, head)
  }

  async function include(
    one: Pending,
    place: { readonly number: number; readonly hash: string; readonly index: number },
  ): Promise<void> {
    one.included = place
    if (one.wanted === 'block') await finish(one, place)
  }

  async function finish(one: Pending, place: NonNullable<Pending['included']>): Promise<void> {
    const events = (await blocks.events(place.hash)).filter(({ extrinsic }) => extrinsic === place.index)
    pending.delete(one)
    const failure = failureOf(await runtimes.at(place.hash), events)
    if (failure !== undefined) return one.reject(failure)
    one.resolve({
      blockNumber: place.number,
      blockHash: place.hash,
      extrinsicHash: one.signed.hash,
      events: events satisfies readonly LedgerEvent[],
    })
  }

  /** A transaction that is in no block yet: expired, replaced, refused meanwhile, or to be offered again. */
  async function chase(one: Pending, head: Header): Promise<void> {
    if (head.number > one.signed.until) {
      const why = one.complaint === undefined ? '' : `: ${one.complaint.message}`
      return drop(
        one,
        new ChoraleError(
          'timeout',
          `the call was in no block up to ${one.signed.until}${why}; send it again`,
        ),
      )
    }
    if (head.number - one.offeredAt < OFFER_AGAIN) return
    const refused = await offer(one)
    if (refused === undefined) return
    one.complaint = refused
    if (!nonceTaken(refused) && refused.rpcCode !== BANNED) return drop(one, refusal(refused))
    // The chain may be further than the blocks looked at: what counts is whether the nonce was used up to `head`.
    const next = await nonceAtBlock(node, runtimes.current, one.account, head.hash)
    if (next <= one.signed.nonce) return
    // Used, though no block seen here held the call: it was in a skipped one, or another call took the nonce.
    if (await foundEarlier(one, head)) return
    drop(
      one,
      new ChoraleError(
        'ledger',
        `another call of ${one.account} took the number ${one.signed.nonce} first: this one was not made; send it again`,
      ),
    )
  }

  /** Looks through the blocks of the era that were not seen: after long interruptions the gap is wider than what is filled. */
  async function foundEarlier(one: Pending, head: Header): Promise<boolean> {
    for (let number = head.number; number >= Math.max(1, one.signed.until - ERA_BLOCKS); number--) {
      const hash = await node.ask('chain_getBlockHash', [number])
      if (typeof hash !== 'string') continue
      const index = (await hashesIn(hash)).indexOf(one.signed.hash)
      if (index < 0) continue
      await include(one, { number, hash, index })
      return true
    }
    return false
  }

  function drop(one: Pending, error: Error): void {
    pending.delete(one)
    // Later numbers wait for this one: the next call takes it.
    const account = accounts.get(one.account)
    if (account !== undefined) account.next = undefined
    one.reject(error)
  }

  async function settleFinal(final: Header): Promise<void> {
    for (const one of pending) {
      const place = one.included
      if (place === undefined || one.wanted !== 'finalized' || place.number > final.number) continue
      const hash = await node.ask('chain_getBlockHash', [place.number])
      if (hash === place.hash) await finish(one, place)
      else if (typeof hash === 'string' && place === one.included) one.included = undefined
    }
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

  const stopHeaders = blocks.watchHeaders(look)
  const stopFinal = blocks.watchFinalized((final) => {
    settleFinal(final).catch((error: unknown) =>
      log.debug('finality could not be checked', { reason: errorMessage(error) }),
    )
  })
  // A call whose hand-over was interrupted is offered as soon as the node is back, unless a block of the gap holds it:
  // the very same bytes, which a chain takes once.
  const stopConnection = node.onConnection(() => {
    for (const one of pending) if (one.included === undefined) one.offeredAt = -Infinity
  })
  const nudge = setInterval(() => {
    for (const one of pending) {
      if (one.offeredAt === -Infinity && one.included === undefined && node.status.state === 'reachable') {
        chase(one, blocks.best).catch((error: unknown) =>
          log.debug('a transaction could not be offered again', { reason: errorMessage(error) }),
        )
      }
    }
  }, NUDGE_MS)

  return {
    submit,
    fee,
    close: () => {
      closed = true
      clearInterval(nudge)
      stopHeaders()
      stopFinal()
      stopConnection()
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

function stopped(until: number): ChoraleError {
  return new ChoraleError('cancelled', `stopped waiting; the call may still be included until block ${until}`)
}

function cancelled(): ChoraleError {
  return new ChoraleError('cancelled', 'cancelled before the call was sent')
}
