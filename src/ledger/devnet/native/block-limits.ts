import type { LedgerValue } from '../../ledger.ts'

/** Blocks whose hash is remembered; a transaction can't be mortal for longer. */
export const BLOCK_HASH_COUNT = 256

/** Bytes of one block's extrinsics; signed ones get three quarters. Keeps a block below what a WebSocket frame may be. */
export const MAX_BLOCK_LENGTH = 5 * 1024 * 1024
/** Bytes that signed extrinsics of one block may have. */
export const MAX_NORMAL_LENGTH = (MAX_BLOCK_LENGTH / 4) * 3

/** Picoseconds; 2 s of computing in a block of 6 s. */
export const MAX_BLOCK_WEIGHT = 2_000_000_000_000n
/** Picoseconds that signed extrinsics of one block may weigh. */
export const MAX_NORMAL_WEIGHT = (MAX_BLOCK_WEIGHT / 4n) * 3n

/** Picoseconds that any extrinsic counts for, beside its call. */
export const BASE_EXTRINSIC_WEIGHT = 108_157_000n
/** Picoseconds of a call that names no weight of its own: Hypertensor's Network pallet weighs none of its calls. */
export const DEFAULT_CALL_WEIGHT = 0n

const MOST = 2n ** 64n - 1n
const weight = (refTime: bigint, proofSize = 0n): LedgerValue => ({
  ref_time: refTime,
  proof_size: proofSize,
})

/** `frame_system::limits::BlockWeights::with_sensible_defaults` of the numbers above. */
export const BLOCK_WEIGHTS: LedgerValue = {
  base_block: weight(431_614_000n),
  max_block: weight(MAX_BLOCK_WEIGHT, MOST),
  per_class: {
    normal: {
      base_extrinsic: weight(BASE_EXTRINSIC_WEIGHT),
      max_extrinsic: weight(1_299_891_843_000n, 11_990_383_647_911_208_550n),
      max_total: weight(MAX_NORMAL_WEIGHT, 13_835_058_055_282_163_711n),
      reserved: weight(0n),
    },
    operational: {
      base_extrinsic: weight(BASE_EXTRINSIC_WEIGHT),
      max_extrinsic: weight(1_799_891_843_000n, 16_602_069_666_338_596_454n),
      max_total: weight(MAX_BLOCK_WEIGHT, MOST),
      reserved: weight(500_000_000_000n, 4_611_686_018_427_387_904n),
    },
    mandatory: {
      base_extrinsic: weight(BASE_EXTRINSIC_WEIGHT),
      max_extrinsic: undefined,
      max_total: undefined,
      reserved: undefined,
    },
  },
}

/** `frame_system::limits::BlockLength` of the numbers above. */
export const BLOCK_LENGTH: LedgerValue = {
  max: { normal: MAX_NORMAL_LENGTH, operational: MAX_BLOCK_LENGTH, mandatory: MAX_BLOCK_LENGTH },
}

/** Picoseconds of reading and of writing an entry, as the constant says; nothing here is charged by it. */
export const DB_WEIGHT: LedgerValue = { read: 25_000_000n, write: 100_000_000n }
