import { ChoraleError } from '../../../errors.ts'
import type { PalletDefinition } from './pallet.ts'

/** The block's time, set by its author. `blockMs` is the time between blocks. */
export function timestampPallet(blockMs: number): PalletDefinition {
  const minimumPeriod = BigInt(Math.max(1, Math.floor(blockMs / 2)))
  return {
    name: 'Timestamp',
    index: 1,
    types: {},
    storage: [
      { name: 'Now', keys: [], type: 'u64', default: 0n },
      { name: 'DidUpdate', keys: [], type: 'bool', default: false },
    ],
    calls: [
      {
        index: 0,
        name: 'set',
        args: { now: 'Compact<u64>' },
        inherent: true,
        weight: 0n,
        dispatch(context, _origin, args) {
          const now = args['now'] as bigint
          const before = context.get('Now') as bigint
          // As in Substrate these are the author's faults, not a caller's: the block is invalid.
          if (context.has('DidUpdate'))
            throw new ChoraleError('ledger', 'Timestamp must be updated only once in the block')
          if (before !== 0n && now < before + minimumPeriod)
            throw new ChoraleError('ledger', `Timestamp ${now} must be at least ${before + minimumPeriod}`)
          context.set('Now', [], now)
          context.set('DidUpdate', [], true)
        },
      },
    ],
    events: [],
    errors: [],
    constants: [{ name: 'MinimumPeriod', type: 'u64', value: minimumPeriod }],
    onFinalize(context) {
      if (!context.has('DidUpdate'))
        throw new ChoraleError('ledger', 'Timestamp must be updated once in the block')
      context.remove('DidUpdate')
    },
  }
}
