import { ChoraleError } from '../errors.ts'
import { f32ToF16, f16ToF32 } from './dtype.ts'
import { blockBytes, blockSize } from './weight.ts'

/** Formats that can be made here; all of groups of 32 along a row. */
export type QuantisedDtype = 'Q8_0' | 'Q4_0' | 'Q4_1'

const GROUP = 32

/**
 * Rounds weights to a block format, byte for byte as ggml's reference does (`ggml-quants.c`, quantize_row_*_ref).
 *
 * @param values whole rows; their length is a multiple of 32.
 * @throws `bad_request` for another length or a value that is not finite: its group would be lost.
 */
export function quantize(dtype: QuantisedDtype, values: Float32Array): Uint8Array {
  if (values.length % blockSize(dtype) !== 0) {
    throw new ChoraleError('bad_request', `${values.length} weights are no whole groups of ${GROUP}`)
  }
  const groups = values.length / GROUP
  const bytes = new Uint8Array(groups * blockBytes(dtype))
  const write = { Q8_0: writeQ8_0, Q4_0: writeQ4_0, Q4_1: writeQ4_1 }[dtype]
  for (let group = 0; group < groups; group++) {
    const weights = values.subarray(group * GROUP, (group + 1) * GROUP)
    if (!weights.every(Number.isFinite)) {
      throw new ChoraleError(
        'bad_request',
        `weight ${group * GROUP + weights.findIndex((x) => !Number.isFinite(x))} is not finite`,
      )
    }
    write(weights, bytes.subarray(group * blockBytes(dtype), (group + 1) * blockBytes(dtype)))
  }
  return bytes
}

/** w ≈ d·q, q in -127..127, d = max|w| / 127. */
function writeQ8_0(weights: Float32Array, block: Uint8Array): void {
  const d = Math.fround(largest(weights) / 127)
  const inverse = d === 0 ? 0 : Math.fround(1 / d)
  writeHalf(block, 0, d)
  for (let i = 0; i < GROUP; i++) {
    const scaled = Math.fround((weights[i] as number) * inverse)
    // Halves away from zero, as C's roundf.
    block[2 + i] = Math.sign(scaled) * Math.floor(Math.abs(scaled) + 0.5)
  }
}

/** w ≈ d·(q - 8), q in 0..15, d = w of the largest |w| / -8. */
function writeQ4_0(weights: Float32Array, block: Uint8Array): void {
  let extreme = 0
  for (const weight of weights) if (Math.abs(weight) > Math.abs(extreme)) extreme = weight
  const d = Math.fround(extreme / -8)
  const inverse = d === 0 ? 0 : Math.fround(1 / d)
  writeHalf(block, 0, d)
  writeNibbles(block.subarray(2), (i) => Math.fround(Math.fround((weights[i] as number) * inverse) + 8.5))
}

/** w ≈ d·q + m, q in 0..15, m = min w, d = (max w - m) / 15. */
function writeQ4_1(weights: Float32Array, block: Uint8Array): void {
  const m = weights.reduce((least, weight) => Math.min(least, weight))
  const d = Math.fround(Math.fround(weights.reduce((most, weight) => Math.max(most, weight)) - m) / 15)
  const inverse = d === 0 ? 0 : Math.fround(1 / d)
  writeHalf(block, 0, d)
  writeHalf(block, 2, m)
  writeNibbles(block.subarray(4), (i) =>
    Math.fround(Math.fround(Math.fround((weights[i] as number) - m) * inverse) + 0.5),
  )
}

/** Low nibble of byte j holds weight j, high nibble weight j + 16; values are cut to whole numbers 0..15. */
function writeNibbles(bytes: Uint8Array, level: (index: number) => number): void {
  const nibble = (index: number) => Math.min(15, Math.max(0, Math.trunc(level(index))))
  for (let j = 0; j < GROUP / 2; j++) bytes[j] = nibble(j) | (nibble(j + GROUP / 2) << 4)
}

function largest(weights: Float32Array): number {
  return weights.reduce((most, weight) => Math.max(most, Math.abs(weight)), 0)
}

/** @throws `bad_request` for a scale beyond float16: such weights can't be kept in these formats. */
function writeHalf(block: Uint8Array, offset: number, value: number): void {
  const half = f32ToF16(Float32Array.of(value))
  if (!Number.isFinite(f16ToF32(half)[0])) {
    throw new ChoraleError('bad_request', `a group's scale ${value} does not fit float16`)
  }
  block.set(half, offset)
}
