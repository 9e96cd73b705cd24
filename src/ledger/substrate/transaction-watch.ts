import { ChoraleError, errorMessage } from '../../errors.ts'
import type { Logger } from '../../log.ts'
import type { LedgerEvent } from '../ledger.ts'
import type { AccountTurns } from './account-turns.ts'
import type { Blocks } from './blocks.ts'
import { failureOf } from './dispatch-error.ts'
import { ERA_BLOCKS, extrinsicHash } from './extrinsic.ts'
import type { Header } from './header.ts'
import { isRecord, RpcError } from './json-rpc.ts'
import { nonceAtBlock } from './nonces.ts'
import type { PendingTransaction, Place } from './pending-transaction.ts'
import { ALREADY_IMPORTED, BANNED, nonceTaken, refusal } from './pool-refusal.ts'
import type { Node } from './reconnecting.ts'
import type { Runtimes } from './runtimes.ts'

/** Looks for transactions in the blocks that come, and offers those that are in none to the node again. */
export interface TransactionWatch {
  /** Sends the bytes. @returns the node's refusal; undefined when the node has them, or can't be asked now. */
  offer(one: PendingTransaction, again?: boolean): Promise<RpcError | undefined>
  /** Looks after all of `pending` until it is stopped. @returns how to stop */
  start(): () => void
}

/** What a watch asks, and where it finds what it is to look for. */
export interface TransactionWatchPorts {
  readonly node: Node
  readonly runtimes: Runtimes
  readonly blocks: Blocks
  /** Transactions under way; whoever is decided is taken out here. */
  readonly pending: Set<PendingTransaction>
  readonly accounts: AccountTurns
  readonly log: Logger
}

/** Blocks without a transaction after which it is offered again: a node may have lost its pool. */
const OFFER_AGAIN = 3
/** How often calls without an answer are looked after while no block comes, in milliseconds. */
const NUDGE_MS = 500

/** A watch that looks at nothing yet. */
export function createTransactionWatch(ports: TransactionWatchPorts): TransactionWatch {
  const { node, runtimes, blocks, pending, accounts, log } = ports
  let lastHead: string | undefined

  /** Sends the bytes. @returns the node's refusal; undefined when the node has them, or can't be asked now. */
  async function offer(one: PendingTransaction, again = true): Promise<RpcError | undefined> {
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
      accounts.askAgain()
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

  async function include(one: PendingTransaction, place: Place): Promise<void> {
    one.included = place
    if (one.wanted === 'block') await finish(one, place)
  }

  async function finish(one: PendingTransaction, place: Place): Promise<void> {
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
  async function chase(one: PendingTransaction, head: Header): Promise<void> {
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
  async function foundEarlier(one: PendingTransaction, head: Header): Promise<boolean> {
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

  function drop(one: PendingTransaction, error: Error): void {
    pending.delete(one)
    // Later numbers wait for this one: the next call takes it.
    accounts.askAgain(one.account)
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

  function start(): () => void {
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
    return () => {
      clearInterval(nudge)
      stopHeaders()
      stopFinal()
      stopConnection()
    }
  }

  return { offer, start }
}
