import { ChoraleError } from '../../errors.ts'
import type { LedgerValue } from '../ledger.ts'
import { readHash } from './header.ts'
import { fromHex, toHex } from '../hex.ts'
import { isRecord } from './json-rpc.ts'
import type { Node } from './reconnecting.ts'
import { type RuntimeCodec, storageItem, type StorageItem } from './runtime-codec.ts'
import type { Runtimes } from './runtimes.ts'
import { decodeScale } from './scale-decode.ts'
import { keysOf, storageKey } from './storage-keys.ts'

/** One plain value or map entry. */
export interface StorageRead {
  readonly pallet: string
  readonly item: string
  readonly keys: readonly LedgerValue[]
}

/** A block's storage by the metadata's names, decoded. */
export interface State {
  readonly hash: string
  readonly codec: RuntimeCodec
  has(pallet: string, item: string): boolean
  get(pallet: string, item: string, keys: readonly LedgerValue[]): Promise<LedgerValue | undefined>
  /** Many in one question; same order. */
  getMany(reads: readonly StorageRead[]): Promise<readonly (LedgerValue | undefined)[]>
  /** Entries below the first keys of a map: the remaining keys and the value. @throws `limit` above 20,000. */
  entries(
    pallet: string,
    item: string,
    first: readonly LedgerValue[],
  ): Promise<readonly { readonly keys: readonly LedgerValue[]; readonly value: LedgerValue }[]>
  /** Calls a runtime API with SCALE bytes. */
  call(api: string, input: Uint8Array): Promise<Uint8Array>
}

/** Entries a map may have to be read whole: defends memory against a hostile node. */
const MAX_ENTRIES = 20_000
const PAGE = 1000

/** The state of block `at`, or of the best block now: one block for all reads, so that they agree with each other. */
export async function openState(node: Node, runtimes: Runtimes, at: string | undefined): Promise<State> {
  const hash = at ?? readHash(await node.ask('chain_getBlockHash', []))
  const codec = at === undefined ? runtimes.current : await runtimes.at(at)

  async function raw(keys: readonly Uint8Array[]): Promise<(Uint8Array | undefined)[]> {
    if (keys.length === 0) return []
    const wanted = keys.map(toHex)
    if (wanted.length === 1) {
      const value = await node.ask('state_getStorage', [wanted[0], hash])
      return [value === null || value === undefined ? undefined : fromHex(value, 'storage')]
    }
    const found = new Map<string, Uint8Array>()
    for (let i = 0; i < wanted.length; i += PAGE) {
      const answer = await node.ask('state_queryStorageAt', [wanted.slice(i, i + PAGE), hash])
      const changes =
        Array.isArray(answer) && isRecord(answer[0]) && Array.isArray(answer[0]['changes'])
          ? (answer[0]['changes'] as unknown[])
          : []
      for (const change of changes) {
        if (!Array.isArray(change) || change[1] === null || change[1] === undefined) continue
        found.set(String(change[0]), fromHex(change[1], 'storage'))
      }
    }
    return wanted.map((key) => found.get(key))
  }

  function decode(item: StorageItem, bytes: Uint8Array | undefined): LedgerValue | undefined {
    const present = bytes ?? item.fallback
    return present === undefined ? undefined : decodeScale(codec.types, codec.accounts, item.value, present)
  }

  async function getMany(reads: readonly StorageRead[]): Promise<readonly (LedgerValue | undefined)[]> {
    const items = reads.map(({ pallet, item }) => storageItem(codec, pallet, item))
    const keys = items.map((item, i) => {
      const given = reads[i]?.keys ?? []
      if (given.length !== item.keys.length) {
        throw new ChoraleError(
          'bad_request',
          `${item.pallet}.${item.name} has ${item.keys.length} keys, not ${given.length}`,
        )
      }
      return storageKey(codec, item, given)
    })
    const values = await raw(keys)
    return items.map((item, i) => decode(item, values[i]))
  }

  return {
    hash,
    codec,
    has: (pallet, item) => codec.pallets.get(pallet)?.storage.has(item) === true,
    get: async (pallet, item, keys) => (await getMany([{ pallet, item, keys }]))[0],
    getMany,
    entries: async (pallet, name, first) => {
      const item = storageItem(codec, pallet, name)
      const prefix = toHex(storageKey(codec, item, first))
      const keys: string[] = []
      for (;;) {
        const last = keys.at(-1)
        const page = await node.ask('state_getKeysPaged', [prefix, PAGE, last ?? null, hash])
        if (!Array.isArray(page)) throw new ChoraleError('ledger', 'the node sent no list of storage keys')
        for (const key of page) {
          if (typeof key !== 'string' || !key.startsWith(prefix) || key === last) {
            throw new ChoraleError('ledger', `the node sent a key that is not below ${pallet}.${name}`)
          }
          keys.push(key)
        }
        if (keys.length > MAX_ENTRIES)
          throw new ChoraleError('limit', `${pallet}.${name} has more than ${MAX_ENTRIES} entries`)
        if (page.length < PAGE) break
      }
      const bytes = keys.map((key) => fromHex(key, 'storage key'))
      const values = await raw(bytes)
      return bytes.map((key, i) => ({
        keys: keysOf(codec, item, key, first.length),
        value: decode(item, values[i]),
      }))
    },
    call: async (api, input) => fromHex(await node.ask('state_call', [api, toHex(input), hash]), api),
  }
}
