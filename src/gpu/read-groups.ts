import { f16Table } from '../tensor/dtype.ts'
import { IQ4_LEVELS } from '../tensor/k-quants.ts'
import { blockBytes, type WeightTensor } from '../tensor/weight.ts'
import { q4kScale } from './pack-q4.ts'

/**
 * Takes group number `group` of 16 weights: integers[i] * scale + min. `halfScale`: the scale's float16 bits, where
 * the format stores it so. `integers` is used again for the next group.
 */
export type TakeGroup = (
  group: number,
  integers: Int16Array,
  scale: number,
  min: number,
  halfScale: number,
) => void

/**
 * A block-quantised weight as integers and scales, in groups of 16 in order.
 * The layouts are those of `src/tensor/quant.ts` and `k-quants.ts`. Not checked: the length of `weight.bytes`.
 */
export function readGroups(weight: WeightTensor, take: TakeGroup): void {
  const read = READERS[weight.dtype]
  if (read === undefined) throw new Error(`${weight.dtype} has no groups`)
  const size = blockBytes(weight.dtype)
  const integers = new Int16Array(16)
  for (let at = 0, group = 0; at < weight.bytes.length; at += size) {
    group += read(weight.bytes, at, integers, (sub, scale, min, halfScale) =>
      take(group + sub, integers, scale, min, halfScale),
    )
  }
}

/** Reads one block, calling `put` when `integers` holds group `sub` of it; returns the groups of a block. */
type ReadBlock = (
  bytes: Uint8Array,
  at: number,
  integers: Int16Array,
  put: (sub: number, scale: number, min: number, halfScale: number) => void,
) => number

function u16(bytes: Uint8Array, at: number): number {
  return bytes[at]! | (bytes[at + 1]! << 8)
}

const readQ80: ReadBlock = (bytes, at, integers, put) => {
  const d = u16(bytes, at)
  for (let sub = 0; sub < 2; sub++) {
    for (let i = 0; i < 16; i++) integers[i] = (bytes[at + 2 + sub * 16 + i]! << 24) >> 24
    put(sub, f16Table()[d]!, 0, d)
  }
  return 2
}

/** Q5_0 (d) and Q5_1 (d, m): low halves are weights 0..15, high halves 16..31, the fifth bits in 4 bytes before. */
function fiveBit(hasMin: boolean): ReadBlock {
  return (bytes, at, integers, put) => {
    const d = u16(bytes, at)
    const min = hasMin ? f16Table()[u16(bytes, at + 2)]! : 0
    const high = at + (hasMin ? 4 : 2)
    for (let sub = 0; sub < 2; sub++) {
      for (let i = 0; i < 16; i++) {
        const e = sub * 16 + i
        const nibble = (bytes[high + 4 + i]! >> (4 * sub)) & 15
        const fifth = (bytes[high + (e >> 3)]! >> (e & 7)) & 1
        integers[i] = (nibble | (fifth << 4)) - (hasMin ? 0 : 16)
      }
      put(sub, f16Table()[d]!, min, d)
    }
    return 2
  }
}

const readIq4Nl: ReadBlock = (bytes, at, integers, put) => {
  const d = u16(bytes, at)
  for (let sub = 0; sub < 2; sub++) {
    for (let i = 0; i < 16; i++) integers[i] = IQ4_LEVELS[(bytes[at + 2 + i]! >> (4 * sub)) & 15]!
    put(sub, f16Table()[d]!, 0, d)
  }
  return 2
}

const readIq4Xs: ReadBlock = (bytes, at, integers, put) => {
  const d = f16Table()[u16(bytes, at)]!
  const highBits = u16(bytes, at + 2)
  for (let sub = 0; sub < 16; sub++) {
    const run = sub >> 1
    const low = (bytes[at + 4 + (run >> 1)]! >> (4 * (run & 1))) & 15
    const scale = d * ((low | (((highBits >> (2 * run)) & 3) << 4)) - 32)
    for (let i = 0; i < 16; i++) {
      integers[i] = IQ4_LEVELS[(bytes[at + 8 + run * 16 + i]! >> (4 * (sub & 1))) & 15]!
    }
    put(sub, scale, 0, 0)
  }
  return 16
}

const readQ2K: ReadBlock = (bytes, at, integers, put) => {
  const d = f16Table()[u16(bytes, at + 80)]!
  const dmin = f16Table()[u16(bytes, at + 82)]!
  for (let sub = 0; sub < 16; sub++) {
    const scale = bytes[at + sub]!
    const [from, shift] = twoBitGroup(at + 16, sub)
    for (let i = 0; i < 16; i++) integers[i] = (bytes[from + i]! >> shift) & 3
    put(sub, d * (scale & 15), -dmin * (scale >> 4), 0)
  }
  return 16
}

const readQ3K: ReadBlock = (bytes, at, integers, put) => {
  const d = f16Table()[u16(bytes, at + 108)]!
  for (let sub = 0; sub < 16; sub++) {
    const low = (bytes[at + 96 + (sub & 7)]! >> (sub < 8 ? 0 : 4)) & 15
    const high = (bytes[at + 104 + (sub & 3)]! >> (2 * (sub >> 2))) & 3
    const [from, shift] = twoBitGroup(at + 32, sub)
    for (let i = 0; i < 16; i++) {
      const third = (bytes[at + (sub & 1) * 16 + i]! >> (sub >> 1)) & 1
      integers[i] = ((bytes[from + i]! >> shift) & 3) - (third === 1 ? 0 : 4)
    }
    put(sub, d * ((low | (high << 4)) - 32), 0, 0)
  }
  return 16
}

const readQ5K: ReadBlock = (bytes, at, integers, put) => {
  const d = f16Table()[u16(bytes, at)]!
  const dmin = f16Table()[u16(bytes, at + 2)]!
  for (let sub = 0; sub < 16; sub++) {
    const run = sub >> 1
    const [scale, min] = q4kScale(bytes, at + 4, run)
    for (let i = 0; i < 16; i++) {
      const l = (sub & 1) * 16 + i
      const nibble = (bytes[at + 48 + (run >> 1) * 32 + l]! >> ((run & 1) * 4)) & 15
      integers[i] = nibble | (((bytes[at + 16 + l]! >> run) & 1) << 4)
    }
    put(sub, d * scale, -dmin * min, 0)
  }
  return 16
}

const readQ6K: ReadBlock = (bytes, at, integers, put) => {
  const d = f16Table()[u16(bytes, at + 208)]!
  for (let sub = 0; sub < 16; sub++) {
    const half = sub >> 3
    const run = (sub >> 1) & 3
    const low = at + 64 * half + (run & 1) * 32 + (sub & 1) * 16
    const high = at + 128 + 32 * half + (sub & 1) * 16
    for (let i = 0; i < 16; i++) {
      const nibble = (bytes[low + i]! >> ((run >> 1) * 4)) & 15
      integers[i] = (nibble | (((bytes[high + i]! >> (2 * run)) & 3) << 4)) - 32
    }
    put(sub, d * ((bytes[at + 192 + sub]! << 24) >> 24), 0, 0)
  }
  return 16
}

/** Where group g of Q2_K and Q3_K keeps its two low bits: first byte and shift. */
function twoBitGroup(qs: number, group: number): readonly [from: number, shift: number] {
  const inHalf = group & 7
  return [qs + (group >> 3) * 32 + (inHalf & 1) * 16, (inHalf >> 1) * 2]
}

const READERS: Readonly<Partial<Record<WeightTensor['dtype'], ReadBlock>>> = {
  Q8_0: readQ80,
  Q5_0: fiveBit(false),
  Q5_1: fiveBit(true),
  IQ4_NL: readIq4Nl,
  IQ4_XS: readIq4Xs,
  Q2_K: readQ2K,
  Q3_K: readQ3K,
  Q5_K: readQ5K,
  Q6_K: readQ6K,
}
