import { DispatchError } from '../../substrate/dispatch-error.ts'
import type { LedgerEvent, LedgerValue } from '../../ledger.ts'
import type { NativeBlock } from './native-chain.ts'
import { variantOf, type RuntimeTypes } from './runtime-types.ts'
import { RuntimeState } from './state.ts'

interface EventRecord {
  readonly phase: LedgerValue
  readonly event: { readonly type: string; readonly value: LedgerValue }
}

/** Events of a block as the ledger port gives them: fields by name, unnamed ones as `0`, `1`, …. */
export function blockEvents(types: RuntimeTypes, block: NativeBlock): readonly LedgerEvent[] {
  const state = new RuntimeState(types, block.state.overlay())
  const records = state.get('System.Events') as unknown as readonly EventRecord[]
  return records.map(({ phase, event }) => {
    const { type: name, value } = variantOf(event.value)
    const named = { pallet: event.type, name, data: eventData(types, event.type, name, value) }
    const { type, value: index } = variantOf(phase)
    return type === 'ApplyExtrinsic' ? { ...named, extrinsic: index as number } : named
  })
}

function eventData(
  types: RuntimeTypes,
  pallet: string,
  name: string,
  value: LedgerValue,
): Readonly<Record<string, LedgerValue>> {
  const fields = types.pallet(pallet).events.find((event) => event.name === name)?.fields
  if (!Array.isArray(fields)) return value as Readonly<Record<string, LedgerValue>>
  if (fields.length === 0) return {}
  const values = fields.length === 1 ? [value] : (value as readonly LedgerValue[])
  return Object.fromEntries(values.map((one, index) => [String(index), one]))
}

/** The error a transaction's events tell of: its own, or that of a call inside sudo or a batch. */
export function failureOf(types: RuntimeTypes, events: readonly LedgerEvent[]): DispatchError | undefined {
  for (const { pallet, name, data } of events) {
    if (pallet === 'System' && name === 'ExtrinsicFailed') return named(types, data['dispatch_error'])
    if (pallet === 'Utility' && name === 'BatchInterrupted') return named(types, data['error'])
    const result = data['sudo_result']
    if (pallet !== 'Sudo' || result === undefined) continue
    const { type, value } = variantOf(result)
    if (type === 'Err') return named(types, value)
  }
  return undefined
}

function named(types: RuntimeTypes, error: LedgerValue): DispatchError {
  const { type, value } = variantOf(error)
  if (type !== 'Module')
    return typeof error === 'string'
      ? new DispatchError('Dispatch', error, undefined)
      : new DispatchError(type, typeof value === 'string' ? value : type, undefined)
  const { index, error: bytes } = value as { readonly index: number; readonly error: Uint8Array }
  const pallet = types.pallets.find((one) => one.index === index)
  const code = bytes[0] ?? 0
  return new DispatchError(
    pallet?.name ?? `pallet ${index}`,
    pallet?.errors[code] ?? `error ${code}`,
    undefined,
  )
}
