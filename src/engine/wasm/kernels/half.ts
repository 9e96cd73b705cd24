// Scales and weights narrower than float32.

/**
 * Bit patterns as variables: a constant vector would be built anew in every turn of a loop, a variable is spread over a
 * vector once before it. `setPatterns` keeps the optimizer from knowing them.
 */
let halfBits: i32 = 0
let halfFactor: f32 = 0
let nibbleBits: i32 = 0

/** Called once in each thread, with 0x8fffe000, 2^112 and 15. */
export function setPatterns(half: i32, factor: f32, nibble: i32): void {
  halfBits = half
  halfFactor = factor
  nibbleBits = nibble
}

/** Sign, exponent and fraction of a float16 moved 13 bits up. */
// @ts-ignore: decorator
@inline
export function halfMask(): v128 {
  return i32x4.splat(halfBits)
}

/** What corrects the exponent then: 2^112. */
// @ts-ignore: decorator
@inline
export function halfScale(): v128 {
  return f32x4.splat(halfFactor)
}

/** The low four bits of each byte. */
// @ts-ignore: decorator
@inline
export function nibbleMask(): v128 {
  return i8x16.splat(<i8>nibbleBits)
}

/**
 * Four values at `address`, given `halfMask()` and `halfScale()` (or less, for weights stored too large: `MATRIX_FACTOR`). S is u16 for
 * float16, i16 for bfloat16, f32 for float32.
 * Infinities and NaN of float16 are not read right; the host stores such tensors as float32.
 */
// @ts-ignore: decorator
@inline
export function load4<S>(address: usize, mask: v128, scale: v128): v128 {
  if (sizeof<S>() == 4) return v128.load(address)
  if (isSigned<S>()) return i32x4.shl(v128.load16x4_u(address), 16)
  return fromHalf(v128.load16x4_s(address), mask, scale)
}

/** The four values behind those that `load4` loads. The offset is the instruction's, so that V8 pairs both. */
// @ts-ignore: decorator
@inline
export function following4<S>(address: usize, mask: v128, scale: v128): v128 {
  if (sizeof<S>() == 4) return v128.load(address, 16)
  if (isSigned<S>()) return i32x4.shl(v128.load16x4_u(address, 8), 16)
  return fromHalf(v128.load16x4_s(address, 8), mask, scale)
}

/**
 * Four float16, widened to 32 bits, as float32, exact for every finite value: the bits are moved to where float32 keeps
 * them and the exponent's bias is corrected by a power of two.
 */
// @ts-ignore: decorator
@inline
function fromHalf(bits: v128, mask: v128, scale: v128): v128 {
  return f32x4.mul(v128.and(i32x4.shl(bits, 13), mask), scale)
}
