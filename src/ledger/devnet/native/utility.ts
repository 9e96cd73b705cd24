import type { LedgerValue } from '../../ledger.ts'
import type { Origin, PalletContext, PalletDefinition } from './pallet.ts'
import { dispatchCall } from './state.ts'
import { tryCall } from './sudo.ts'

/** Calls of one batch; bounds the work of one extrinsic. Substrate's number for this runtime. */
const MAX_CALLS = 10_922

/** Of a batch without its calls; Hypertensor's. */
const BATCH_WEIGHT = 69_388_813n
const CALLS = { calls: 'Vec<RuntimeCall>' }
type Args = Readonly<Record<string, LedgerValue>>

/** Several calls in one extrinsic. */
export function utilityPallet(): PalletDefinition {
  return {
    name: 'Utility',
    index: 15,
    types: {},
    storage: [],
    calls: [
      { index: 0, name: 'batch', args: CALLS, weight: BATCH_WEIGHT, dispatch: batch },
      { index: 2, name: 'batch_all', args: CALLS, weight: BATCH_WEIGHT, dispatch: batchAll },
      { index: 4, name: 'force_batch', args: CALLS, weight: BATCH_WEIGHT, dispatch: forceBatch },
    ],
    events: [
      { index: 0, name: 'BatchInterrupted', fields: { index: 'u32', error: 'DispatchError' } },
      { index: 1, name: 'BatchCompleted', fields: {} },
      { index: 2, name: 'BatchCompletedWithErrors', fields: {} },
      { index: 3, name: 'ItemCompleted', fields: {} },
      { index: 4, name: 'ItemFailed', fields: { error: 'DispatchError' } },
    ],
    errors: ['TooManyCalls'],
    constants: [{ name: 'batched_calls_limit', type: 'u32', value: MAX_CALLS }],
  }
}

function callsOf(context: PalletContext, args: Args): readonly LedgerValue[] {
  const calls = args['calls'] as readonly LedgerValue[]
  return calls.length > MAX_CALLS ? context.fail('TooManyCalls') : calls
}

/** Until one fails; what came before stays. */
function batch(context: PalletContext, origin: Origin, args: Args): void {
  for (const [index, call] of callsOf(context, args).entries()) {
    const { type, value: error } = tryCall(context, origin, call) as { type: string; value: LedgerValue }
    if (type === 'Err') {
      context.emit('BatchInterrupted', { index, error })
      return
    }
    context.emit('ItemCompleted', {})
  }
  context.emit('BatchCompleted', {})
}

/** All or nothing. */
function batchAll(context: PalletContext, origin: Origin, args: Args): void {
  for (const call of callsOf(context, args)) {
    dispatchCall(context, origin, call)
    context.emit('ItemCompleted', {})
  }
  context.emit('BatchCompleted', {})
}

/** Every one, whatever the others do. */
function forceBatch(context: PalletContext, origin: Origin, args: Args): void {
  let failed = false
  for (const call of callsOf(context, args)) {
    const { type, value: error } = tryCall(context, origin, call) as { type: string; value: LedgerValue }
    if (type === 'Err') {
      failed = true
      context.emit('ItemFailed', { error })
    } else context.emit('ItemCompleted', {})
  }
  context.emit(failed ? 'BatchCompletedWithErrors' : 'BatchCompleted', {})
}
