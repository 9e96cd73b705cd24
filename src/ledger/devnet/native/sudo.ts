import type { LedgerValue } from '../../ledger.ts'
import { DispatchFailure, ensureSigned } from './dispatch-error.ts'
import type { CallDefinition, Origin, PalletContext, PalletDefinition } from './pallet.ts'
import { dispatchCall } from './state.ts'

/** Of the calls without what they call; Hypertensor's. */
const WEIGHTS: Readonly<Record<string, bigint>> = {
  sudo: 36_501_000n,
  sudo_as: 36_618_000n,
  set_key: 135_822_000n,
  remove_key: 135_092_000n,
}
const CALL_WEIGHT = { call: 'RuntimeCall', weight: 'Weight' }

/** One account that may call as root. `key`: that account at genesis; without it nobody may. */
export function sudoPallet(key: string | undefined): PalletDefinition {
  return {
    name: 'Sudo',
    index: 6,
    types: {},
    storage: [{ name: 'Key', keys: [], type: 'AccountId20' }],
    calls: [
      guarded(0, 'sudo', { call: 'RuntimeCall' }, (context, args) =>
        context.emit('Sudid', { sudo_result: tryCall(context, 'root', args['call']) }),
      ),
      guarded(1, 'sudo_unchecked_weight', CALL_WEIGHT, (context, args) =>
        context.emit('Sudid', { sudo_result: tryCall(context, 'root', args['call']) }),
      ),
      guarded(2, 'set_key', { new: 'AccountId20' }, (context, args) => {
        const old = context.get('Key')
        context.set('Key', [], args['new'])
        context.emit('KeyChanged', { old, new: args['new'] })
      }),
      guarded(3, 'sudo_as', { who: 'AccountId20', call: 'RuntimeCall' }, (context, args) => {
        const origin = { signed: args['who'] as string }
        context.emit('SudoAsDone', { sudo_result: tryCall(context, origin, args['call']) })
      }),
      guarded(4, 'remove_key', {}, (context) => {
        context.remove('Key')
        context.emit('KeyRemoved', {})
      }),
    ],
    events: [
      { index: 0, name: 'Sudid', fields: { sudo_result: 'Result<(), DispatchError>' } },
      { index: 1, name: 'KeyChanged', fields: { old: 'Option<AccountId20>', new: 'AccountId20' } },
      { index: 2, name: 'KeyRemoved', fields: {} },
      { index: 3, name: 'SudoAsDone', fields: { sudo_result: 'Result<(), DispatchError>' } },
    ],
    errors: ['RequireSudo'],
    constants: [],
    genesis(context) {
      if (key !== undefined) context.set('Key', [], key)
    },
  }
}

/** A call of the key's owner only, free for it. */
function guarded(
  index: number,
  name: string,
  args: Readonly<Record<string, string>>,
  run: (context: PalletContext, args: Readonly<Record<string, LedgerValue>>) => void,
): CallDefinition {
  return {
    index,
    name,
    args,
    freeOnSuccess: true,
    weight: WEIGHTS[name] ?? 0n,
    dispatch(context, origin, values) {
      if (ensureSigned(origin) !== context.get('Key')) context.fail('RequireSudo')
      run(context, values)
    },
  }
}

/** Runs a call. @returns `Result<(), DispatchError>` */
export function tryCall(context: PalletContext, origin: Origin, call: LedgerValue): LedgerValue {
  try {
    dispatchCall(context, origin, call)
    return { type: 'Ok', value: [] }
  } catch (error) {
    if (error instanceof DispatchFailure) return { type: 'Err', value: error.error }
    throw error
  }
}
