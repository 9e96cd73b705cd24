import { blake2b } from '@noble/hashes/blake2.js'
import { decAnyMetadata, unifyMetadata } from '@polkadot-api/substrate-bindings'
import { ChoraleError } from '../../errors.ts'
import { auraPreDigest } from './header.ts'
import { ScaleReader, ScaleWriter } from './native/scale-bytes.ts'
import type { Runtime, RuntimeStorage } from './runtime.ts'
import type { StateStore } from './storage.ts'
import { storagePrefix } from './twox.ts'

/**
 * What the node, not a user, puts into each block: its time, and whatever the kind of chain wants besides.
 *
 * A parachain's runtime wants proofs of its relay chain. There is none here, so it gets its time in an extrinsic made by
 * hand and `ParachainSystem.ValidationData` written for it: enough for its pallets, not a proof of anything.
 */
export interface BlockPlan {
  /** Milliseconds since the epoch. */
  readonly time: number
  readonly digest: readonly Uint8Array[]
}

/** What block production needs to know of a runtime, asked once. */
export interface RuntimeTraits {
  /** Milliseconds of an Aura slot; 0 where the runtime has no Aura. */
  readonly slotMs: number
  /** Index of the Timestamp pallet where a parachain wants its inherent made by hand. */
  readonly parachainTimestamp: number | undefined
}

const TIMESTAMP_NOW = storagePrefix('Timestamp', 'Now')
const VALIDATION_DATA = storagePrefix('ParachainSystem', 'ValidationData')
/** `max_pov_size`, as relay chains set it. */
const POV_BYTES = 5 * 2 ** 20

/** Asks a runtime what it wants of blocks. */
export function readTraits(runtime: Runtime, state: StateStore): RuntimeTraits {
  const call = (entry: string) => new ScaleReader(runtime.call(entry, new Uint8Array(), state.overlay()))
  const slotMs = runtime.entries.has('AuraApi_slot_duration')
    ? Number(call('AuraApi_slot_duration').big(8, false))
    : 0
  if (!runtime.entries.has('CollectCollationInfo_collect_collation_info')) {
    return { slotMs, parachainTimestamp: undefined }
  }
  const reader = call('Metadata_metadata')
  const { pallets } = unifyMetadata(decAnyMetadata(reader.take(reader.count(1))))
  const timestamp = pallets.find(({ name }) => name === 'Timestamp')
  if (timestamp === undefined) {
    throw new ChoraleError('not_supported', 'the chain spec is a parachain without a Timestamp pallet')
  }
  return { slotMs, parachainTimestamp: timestamp.index }
}

/** The time a state says it is; 0 before the first block. */
export function stateTime(state: Pick<StateStore, 'get'>): number {
  const value = state.get(TIMESTAMP_NOW)
  return value === undefined ? 0 : Number(new ScaleReader(value).big(8, false))
}

/**
 * Time and digest of the next block: not before `now`, and at least one slot after its parent. Blocks made faster than
 * slots pass therefore run ahead of the clock.
 * @param fork tells apart blocks on the same parent with the same contents; below `slotMs`
 */
export function planBlock(
  { slotMs }: RuntimeTraits,
  parent: StateStore,
  now: number,
  leastMs: number,
  fork = 0,
): BlockPlan {
  const earliest = Math.max(now, stateTime(parent) + Math.max(1, slotMs === 0 ? leastMs : slotMs))
  if (slotMs === 0) return { time: earliest + fork, digest: [] }
  const slot = Math.floor(earliest / slotMs)
  return { time: slot * slotMs + (fork % slotMs), digest: [auraPreDigest(BigInt(slot))] }
}

/** The block's inherents, made by the runtime from its time. */
export function makeInherents(
  runtime: Runtime,
  storage: RuntimeStorage,
  plan: BlockPlan,
  traits: RuntimeTraits,
): readonly Uint8Array[] {
  if (traits.parachainTimestamp !== undefined) {
    return [handMadeTimestamp(traits.parachainTimestamp, plan.time)]
  }
  const data = new ScaleWriter()
  data.compact(1)
  data.bytes(new TextEncoder().encode('timstap0'))
  data.compact(8)
  data.big(BigInt(plan.time), 8)
  const reader = new ScaleReader(runtime.call('BlockBuilder_inherent_extrinsics', data.finish(), storage))
  return Array.from({ length: reader.count(1) }, () => takeExtrinsic(reader))
}

/** What a parachain's block must find in its state, put there after its initialisation. */
export function writeParachainData(
  storage: RuntimeStorage,
  traits: RuntimeTraits,
  parent: Uint8Array,
  number: number,
): void {
  if (traits.parachainTimestamp === undefined) return
  const writer = new ScaleWriter()
  writer.compact(parent.length)
  writer.bytes(parent)
  writer.small(number, 4)
  writer.bytes(blake2b(parent, { dkLen: 32 }))
  writer.small(POV_BYTES, 4)
  storage.set(VALIDATION_DATA, writer.finish())
}

/** The next extrinsic of a list with its length prefix, as `apply_extrinsic` takes it. */
function takeExtrinsic(reader: ScaleReader): Uint8Array {
  const start = reader.offset
  reader.skip(reader.count(1))
  return reader.bytes.slice(start, reader.offset)
}

function handMadeTimestamp(palletIndex: number, time: number): Uint8Array {
  const call = new ScaleWriter()
  call.small(4, 1) // version 4, unsigned
  call.small(palletIndex, 1)
  call.small(0, 1) // set
  call.compact(time)
  const body = call.finish()
  const writer = new ScaleWriter()
  writer.compact(body.length)
  writer.bytes(body)
  return writer.finish()
}
