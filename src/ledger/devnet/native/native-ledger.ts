import { blake2b } from '@noble/hashes/blake2.js'
import { ChoraleError, errorMessage } from '../../../errors.ts'
import { silentLogger, type Logger } from '../../../log.ts'
import type {
  Ledger,
  LedgerBlock,
  LedgerCall,
  LedgerInfo,
  LedgerSigner,
  Submitted,
  SubmitOptions,
} from '../../ledger.ts'
import {
  classIndex,
  readConsensus,
  readDelegateStake,
  readDisputes,
  readElected,
  readNodes,
  readSubnet,
  readSubnets,
  readUnbondings,
} from '../../substrate/network-pallet.ts'
import { readAccount } from './balances-context.ts'
import { encodeExtra, encodeSigned, signingPayload, trustSignature, withLength } from './extrinsic.ts'
import { concat, toHex } from '../../hex.ts'
import type { NativeBlock, NativeChain, Outcome } from './native-chain.ts'
import { blockEvents, failureOf } from './native-events.ts'
import { reader } from './native-reader.ts'
import { RuntimeState } from './state.ts'

/** How a native ledger makes blocks and treats its signers. */
export interface NativeLedgerOptions {
  /** Makes a block as soon as something was sent (default); otherwise blocks are made by `chain.produce()` alone. */
  readonly instant?: boolean
  /** Takes a signer's word for its account: its signature is neither checked nor need it be one. For simulations. */
  readonly trustSigners?: boolean
  readonly log?: Logger
}

/** Nonces of one account are given out one after the other, also to several ledgers of one chain. */
const turns = new WeakMap<NativeChain, Map<string, Promise<unknown>>>()
/** Nonces in use by transactions that wait. */
const waiting = new WeakMap<NativeChain, Map<string, number>>()

/** The `Ledger` of a native chain in this process: its twin without RPC. Every block is final. Several may share a chain. */
export function createNativeLedger(chain: NativeChain, options: NativeLedgerOptions = {}): Ledger {
  const { instant = true, trustSigners = false, log = silentLogger } = options
  const { native } = chain
  const { types } = native
  const info = describe(chain)
  const listeners = new Set<(block: LedgerBlock) => void>()
  let closed = false
  let soon = false
  const opened = Date.now()

  const stop = chain.listen((block) => {
    if (listeners.size === 0) return
    const told: LedgerBlock = {
      number: block.number,
      hash: block.hash,
      parentHash: block.parentHash,
      events: blockEvents(types, block),
    }
    for (const listener of listeners) {
      try {
        listener(told)
      } catch (error) {
        log.warn('a listener of blocks failed', { block: block.number, reason: errorMessage(error) })
      }
    }
  })

  function blockAt(at: string | undefined): NativeBlock {
    if (closed) throw new ChoraleError('cancelled', 'the ledger was closed')
    const block = at === undefined ? chain.head : chain.block(at)
    if (block === undefined) throw new ChoraleError('ledger', `block ${at} is not known or its state is gone`)
    return block
  }
  const stateAt = (at: string | undefined): RuntimeState =>
    new RuntimeState(types, blockAt(at).state.overlay())
  const readerAt = (at: string | undefined): ReturnType<typeof reader> => reader(stateAt(at))

  /** Makes one block of all that is sent in this turn of the event loop. */
  function produceSoon(): void {
    if (!instant || soon) return
    soon = true
    setTimeout(() => {
      soon = false
      try {
        chain.produce()
      } catch (error) {
        // Those who sent something have heard of it.
        log.error('no block could be made', { reason: errorMessage(error) })
      }
    }, 0)
  }

  async function submit(
    call: LedgerCall,
    signer: LedgerSigner,
    { signal }: SubmitOptions = {},
  ): Promise<Submitted> {
    blockAt(undefined)
    if (signal?.aborted === true) throw new ChoraleError('cancelled', 'cancelled before the call was sent')
    const callBytes = encodeCall(types, call)
    const account = signer.address.toLowerCase()
    const mine = mapOf(turns, chain).get(account) ?? Promise.resolve()
    const sent = mine.then(() => send(callBytes, account, signer))
    mapOf(turns, chain).set(
      account,
      sent.catch(() => undefined),
    )
    // Wrapped: the account's turn ends when the call is signed, not when its block is there.
    const { hash, outcome } = await sent
    return settled(hash, await heard(outcome, signal))
  }

  async function send(
    callBytes: Uint8Array,
    account: string,
    signer: LedgerSigner,
  ): Promise<{ readonly hash: string; readonly outcome: Promise<Outcome> }> {
    const counts = mapOf(waiting, chain)
    const nonce =
      readAccount(stateAt(undefined).context('System'), account).nonce + (counts.get(account) ?? 0)
    const body = await signed(chain, callBytes, account, nonce, async (payload) => {
      const signature = await signer.sign(payload)
      if (trustSigners) trustSignature(payload, signature, account)
      return signature
    })
    const outcome = new Promise<Outcome>((resolve) => {
      chain.send(body, (result) => {
        counts.set(account, (counts.get(account) ?? 1) - 1)
        resolve(result)
      })
      counts.set(account, (counts.get(account) ?? 0) + 1)
    })
    produceSoon()
    return { hash: toHex(blake2b(withLength(body), { dkLen: 32 })), outcome }
  }

  function settled(extrinsicHash: string, outcome: Outcome): Submitted {
    if ('refused' in outcome)
      throw new ChoraleError('ledger', `the transaction is in no block: ${outcome.refused}`)
    const { block, index } = outcome
    const events = blockEvents(types, block).filter((event) => event.extrinsic === index)
    const failure = failureOf(types, events)
    if (failure !== undefined) throw failure
    return { blockNumber: block.number, blockHash: block.hash, extrinsicHash, events }
  }

  return {
    info,
    status: { state: 'reachable', since: opened },
    watchStatus: () => () => undefined,
    head: async () => {
      const { number, hash } = blockAt(undefined)
      return { number, hash, finalizedNumber: number, finalizedHash: hash }
    },
    watch(listener) {
      listeners.add(listener)
      return () => void listeners.delete(listener)
    },
    balance: async (account, at) => stateAt(at).balances.free(account),
    subnet: async (id, at) => readSubnet(readerAt(at), id),
    subnets: async (at) => readSubnets(readerAt(at)),
    nodes: async (id, at) => readNodes(readerAt(at), id),
    proofOfStake: async (id, peer, minClass, minStake, at) => {
      const { table } = types
      const input = concat(
        table.encode('u32', id),
        table.encode('Bytes', new TextEncoder().encode(peer)),
        table.encode('u8', classIndex(minClass)),
        table.encode('Option<u128>', minStake),
      )
      const state = blockAt(at).state.overlay()
      return native.runtime.call('NetworkRuntimeApi_proof_of_stake', input, state)[0] === 1
    },
    electedNode: async (id, epoch, at) => readElected(readerAt(at), id, epoch),
    consensus: async (id, epoch, at) => readConsensus(readerAt(at), id, epoch),
    unbondings: async (account, at) => readUnbondings(readerAt(at), account),
    delegateStake: async (account, id, at) => readDelegateStake(readerAt(at), account, id),
    disputes: async (id, at) => readDisputes(readerAt(at), id),
    storage: async (pallet, item, keys, at) => readerAt(at).get(pallet, item, keys),
    submit,
    fee: async (call, { address }) => {
      const bytes = encodeCall(types, call)
      const body = await signed(chain, bytes, address, 0, async () => new Uint8Array(65))
      const whole = withLength(body)
      const input = concat(whole, types.table.encode('u32', whole.length))
      const out = native.runtime.call('TransactionPaymentApi_query_info', input, chain.head.state.overlay())
      return (types.table.decode('RuntimeDispatchInfo', out) as { partial_fee: bigint }).partial_fee
    },
    close: async () => {
      closed = true
      stop()
      listeners.clear()
    },
  }

  function heard(outcome: Promise<Outcome>, signal: AbortSignal | undefined): Promise<Outcome> {
    if (signal === undefined) return outcome
    return new Promise((resolve, reject) => {
      const abort = (): void =>
        reject(new ChoraleError('cancelled', 'stopped waiting; the call may still be included'))
      if (signal.aborted) abort()
      signal.addEventListener('abort', abort, { once: true })
      void outcome.then(resolve).finally(() => signal.removeEventListener('abort', abort))
    })
  }
}

function mapOf<V>(maps: WeakMap<NativeChain, Map<string, V>>, chain: NativeChain): Map<string, V> {
  const map = maps.get(chain) ?? new Map<string, V>()
  maps.set(chain, map)
  return map
}

function describe({ native, genesis }: NativeChain): LedgerInfo {
  const { types, properties } = native
  const network = types.pallets.find(({ name }) => name === 'Network')
  const timestamp = types.pallet('Timestamp').constants.find(({ name }) => name === 'MinimumPeriod')
  const epochBlocks = network?.constants.find(({ name }) => name === 'EpochLength')?.value
  return {
    chain: 'Chorale devnet',
    genesisHash: genesis.hash,
    tokenSymbol: properties.tokenSymbol,
    tokenDecimals: properties.tokenDecimals,
    accounts: 'ethereum',
    blockMs: Number(timestamp?.value ?? 0n) * 2,
    epochBlocks: typeof epochBlocks === 'number' ? epochBlocks : 0,
    disputes: types.pallets.some(({ name }) => name === 'Disputes'),
  }
}

/** SCALE of a call. @throws `not_supported` for an unknown one, `bad_request` for its arguments. */
function encodeCall(types: NativeChain['native']['types'], { pallet, call, args }: LedgerCall): Uint8Array {
  const known = types.pallets.find(({ name }) => name === pallet)?.calls.some(({ name }) => name === call)
  if (known !== true) throw new ChoraleError('not_supported', `this chain has no call ${pallet}.${call}`)
  return types.table.encode('RuntimeCall', { type: pallet, value: { type: call, value: args } })
}

async function signed(
  { native, genesis }: NativeChain,
  callBytes: Uint8Array,
  account: string,
  nonce: number,
  sign: (payload: Uint8Array) => Promise<Uint8Array>,
): Promise<Uint8Array> {
  const extraBytes = encodeExtra({ era: 'immortal', nonce, tip: 0n })
  const payload = signingPayload(callBytes, extraBytes, {
    specVersion: native.version.spec_version,
    transactionVersion: native.version.transaction_version,
    genesisHash: genesis.hash,
    birthHash: genesis.hash,
  })
  return encodeSigned(callBytes, account, await sign(payload), extraBytes)
}
