import { initializeBlock } from '../../../../../src/ledger/devnet/native/executive.ts'
import { DispatchFailure } from '../../../../../src/ledger/devnet/native/dispatch-error.ts'
import { type ExitGuard, NetworkState } from '../../../../../src/ledger/devnet/native/network/state.ts'
import { networkPallet } from '../../../../../src/ledger/devnet/native/network/network-pallet.ts'
import type { PalletDefinition } from '../../../../../src/ledger/devnet/native/pallet.ts'
import { createNativeRuntime } from '../../../../../src/ledger/devnet/native/runtime.ts'
import { RuntimeState } from '../../../../../src/ledger/devnet/native/state.ts'
import { createStateStore } from '../../../../../src/ledger/devnet/storage.ts'
import type { LedgerValue } from '../../../../../src/ledger/ledger.ts'

export const TOKEN = 10n ** 18n

export interface ChainEvent {
  readonly pallet: string
  readonly name: string
  readonly data: LedgerValue
}

/** A chain of the native runtime without signatures and fees: blocks begin, calls are dispatched, events are read. */
export class TestChain {
  readonly state: RuntimeState
  readonly net: NetworkState
  block = 0
  #seen = 0

  constructor({
    epochBlocks = 20,
    local = true,
    endowed = {},
    pallets = [],
    guardExit,
  }: {
    epochBlocks?: number
    local?: boolean
    endowed?: Readonly<Record<string, bigint>>
    pallets?: readonly PalletDefinition[]
    guardExit?: ExitGuard
  } = {}) {
    const native = createNativeRuntime({
      pallets: [
        networkPallet({ epochBlocks, local, ...(guardExit === undefined ? {} : { guardExit }) }),
        ...pallets,
      ],
      endowed,
    })
    const overlay = createStateStore(native.genesis).overlay()
    this.state = new RuntimeState(native.types, overlay)
    this.net = new NetworkState(this.state.context('Network'), epochBlocks)
    this.next()
  }

  /** Begins a block. @returns the events of its hooks. */
  next(): ChainEvent[] {
    this.block++
    this.#seen = 0
    const hash = `0x${this.block.toString(16).padStart(64, '0')}`
    initializeBlock(this.state, {
      parent_hash: hash,
      number: this.block,
      state_root: hash,
      extrinsics_root: hash,
      digest: { logs: [] },
    })
    return this.events()
  }

  /** Begins blocks up to and including `block`. @returns the events of their hooks. */
  goTo(block: number): ChainEvent[] {
    const events: ChainEvent[] = []
    while (this.block < block) events.push(...this.next())
    return events
  }

  /** Calls as an account, or as root with `undefined`. @returns the call's events. @throws DispatchFailure */
  call(
    who: string | undefined,
    name: string,
    args: Record<string, LedgerValue> = {},
    pallet = 'Network',
  ): ChainEvent[] {
    this.state.phase = { extrinsic: 0 }
    const definition = this.state.types.call(pallet, name)
    // Through the codec, as an extrinsic would come.
    const given = Object.fromEntries(
      Object.entries(definition.args).map(([arg, type]) => {
        const codec = this.state.types.table
        return [arg, codec.decode(type, codec.encode(type, args[arg]))]
      }),
    )
    this.state.dispatch(who === undefined ? 'root' : { signed: who }, {
      type: pallet,
      value: { type: name, value: given },
    })
    return this.events()
  }

  /** The name of the error that a call ends with, `''` when it succeeds. Nothing stays of a call that fails. */
  error(
    who: string | undefined,
    name: string,
    args: Record<string, LedgerValue> = {},
    pallet = 'Network',
  ): string {
    const seen = this.#seen
    try {
      this.state.transaction(() => {
        this.call(who, name, args, pallet)
        throw new Undo()
      })
    } catch (error) {
      if (error instanceof Undo) return ''
      if (error instanceof DispatchFailure) return error.message.replace(/^\w+\./, '')
      throw error
    } finally {
      this.#seen = seen
    }
    return ''
  }

  /** Does something of which nothing stays. */
  scratch<T>(work: () => T): T {
    const seen = this.#seen
    this.state.storage.startTransaction()
    try {
      return work()
    } finally {
      this.state.storage.rollbackTransaction()
      this.#seen = seen
    }
  }

  /** Events since the last reading. */
  events(): ChainEvent[] {
    this.state.flushEvents()
    const records = this.state.get('System.Events') as readonly { readonly event: LedgerValue }[]
    const fresh = records.slice(this.#seen)
    this.#seen = records.length
    return fresh.map(({ event }) => {
      const { type: pallet, value } = event as {
        type: string
        value: { type: string; value: LedgerValue } | string
      }
      return typeof value === 'string'
        ? { pallet, name: value, data: undefined }
        : { pallet, name: value.type, data: value.value }
    })
  }

  free(account: string): bigint {
    return this.state.balances.free(account)
  }

  /** Balances and everything that the pallet's books hold: what may change only by minting and burning. */
  supply(): bigint {
    const queued = this.net
      .entries<{ call: { value: { balance: bigint } } }>('SwapCallQueue')
      .reduce((sum, { value }) => sum + value.call.value.balance, 0n)
    return [
      'TotalStake',
      'TotalDelegateStake',
      'TotalNodeDelegateStake',
      'TotalUnbondingBalance',
      'TotalAccountDelegateStake',
      'TotalOverwatchStake',
    ].reduce((sum, item) => sum + this.net.big(item), this.state.balances.issuance() + queued)
  }
}

class Undo extends Error {}

/** The account of a number, 20 bytes. */
export function account(n: number): string {
  return `0x${n.toString(16).padStart(40, '0')}`
}

/** A peer id that looks like an ed25519 one. */
export function peerId(n: number): Uint8Array {
  return new TextEncoder().encode(`12D3KooW${String(n).padStart(44, 'x')}`)
}

/** `/ip4/127.0.0.1/tcp/<port>/p2p/<2 bytes>` in binary. */
export function multiaddr(n: number): Uint8Array {
  return Uint8Array.of(4, 127, 0, 0, 1, 6, n >> 8, n & 255, 0xa5, 0x03, 2, n >> 8, n & 255)
}

export const text = (value: string): Uint8Array => new TextEncoder().encode(value)
