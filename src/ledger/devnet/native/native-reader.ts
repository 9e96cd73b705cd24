import { ChoraleError } from '../../../errors.ts'
import type { LedgerValue } from '../../ledger.ts'
import type { RuntimeState } from './state.ts'

/** One plain value or map entry. */
interface Read {
  readonly pallet: string
  readonly item: string
  readonly keys: readonly LedgerValue[]
}

/** A block's storage by names, as the readers of the Network pallet want it. @throws `not_supported` for an unknown item */
export function reader(state: RuntimeState): {
  has(pallet: string, item: string): boolean
  get(pallet: string, item: string, keys: readonly LedgerValue[]): Promise<LedgerValue | undefined>
  getMany(reads: readonly Read[]): Promise<readonly (LedgerValue | undefined)[]>
  entries(
    pallet: string,
    item: string,
    first: readonly LedgerValue[],
  ): Promise<readonly { readonly keys: readonly LedgerValue[]; readonly value: LedgerValue }[]>
} {
  const has = (pallet: string, item: string): boolean => state.types.items.has(`${pallet}.${item}`)
  const name = (pallet: string, item: string): string => {
    if (!has(pallet, item)) throw new ChoraleError('not_supported', `this chain keeps no ${pallet}.${item}`)
    return `${pallet}.${item}`
  }
  const get = (pallet: string, item: string, keys: readonly LedgerValue[]): LedgerValue => {
    const wanted = state.item(name(pallet, item)).keys.length
    if (keys.length !== wanted)
      throw new ChoraleError('bad_request', `${pallet}.${item} has ${wanted} keys, not ${keys.length}`)
    return state.get(name(pallet, item), keys)
  }
  return {
    has,
    get: async (pallet, item, keys) => get(pallet, item, keys),
    getMany: async (reads) => reads.map(({ pallet, item, keys }) => get(pallet, item, keys)),
    entries: async (pallet, item, first) => state.entries(name(pallet, item), first),
  }
}
