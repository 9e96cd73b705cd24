import { ChoraleError } from '../../errors.ts'
import type { LedgerEvent, LedgerValue } from '../ledger.ts'
import { storageItem, type RuntimeCodec } from './runtime-codec.ts'
import { type RuntimeVariant, typeOf } from './runtime-types.ts'
import { readCompact, readScale, type ScaleReader } from './scale-decode.ts'

/** Events of one block; a full block has thousands. */
const MAX_EVENTS = 1_000_000

/**
 * Decodes `System.Events`: records of phase, event and topics. Fields of an event keep their names; unnamed ones are `0`,
 * `1`, …. @throws `ledger`.
 */
export function readEvents(codec: RuntimeCodec, bytes: Uint8Array): LedgerEvent[] {
  const { value } = storageItem(codec, 'System', 'Events')
  const list = typeOf(codec.types, value)
  const record = list.kind === 'sequence' ? typeOf(codec.types, list.of) : undefined
  if (record?.kind !== 'struct') throw new ChoraleError('ledger', 'System.Events is no list of records')
  const reader: ScaleReader = { types: codec.types, accounts: codec.accounts, bytes, offset: 0 }
  const count = Number(readCompact(reader))
  if (count > Math.min(MAX_EVENTS, bytes.length))
    throw new ChoraleError('ledger', `a block claims ${count} events`)
  const events: LedgerEvent[] = []
  for (let i = 0; i < count; i++) {
    let phase: LedgerValue
    let event: LedgerEvent | undefined
    for (const { name, type } of record.fields) {
      if (name === 'event') event = readEvent(reader, type)
      else if (name === 'phase') phase = readScale(reader, type)
      else readScale(reader, type)
    }
    if (event === undefined) throw new ChoraleError('ledger', 'an event record holds no event')
    const index = extrinsicOf(phase)
    events.push(index === undefined ? event : { ...event, extrinsic: index })
  }
  return events
}

/** The runtime's event: a variant a pallet, inside it a variant an event. */
function readEvent(reader: ScaleReader, type: number): LedgerEvent {
  const pallet = variantAt(reader, type)
  const inside = pallet.fields[0]
  if (inside === undefined) throw new ChoraleError('ledger', `pallet ${pallet.name} has no events`)
  const { name, fields } = variantAt(reader, inside.type)
  const data = Object.fromEntries(
    fields.map((field, i) => [field.name ?? String(i), readScale(reader, field.type)]),
  )
  return { pallet: pallet.name, name, data }
}

function variantAt(reader: ScaleReader, id: number): RuntimeVariant {
  const type = typeOf(reader.types, id)
  const index = reader.bytes[reader.offset++]
  const variant = type.kind === 'enum' ? type.variants.find((one) => one.index === index) : undefined
  if (variant === undefined) throw new ChoraleError('ledger', `an event has no variant ${String(index)}`)
  return variant
}

function extrinsicOf(phase: LedgerValue): number | undefined {
  if (typeof phase !== 'object' || !('type' in phase)) return undefined
  return phase['type'] === 'ApplyExtrinsic' && typeof phase['value'] === 'number' ? phase['value'] : undefined
}
