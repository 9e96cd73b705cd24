// Scales and weights narrower than float32.

/**
 * Four float16 at `address` as float32, exact for every finite value: the bits are moved to where float32 keeps
 * them and the exponent's bias is corrected by a power of two. Infinities and NaN are not read right; the host
 * stores such tensors as float32.
 */
// @ts-ignore: decorator
@inline
export function loadHalf4(address: usize): v128 {
  const bits = v128.and(i32x4.shl(v128.load16x4_s(address), 13), i32x4.splat(0x8fffe000))
  return f32x4.mul(bits, f32x4.splat(reinterpret<f32>(0x77800000)))
}

/** Four values at `address`: S is u16 for float16, i16 for bfloat16, f32 for float32. */
// @ts-ignore: decorator
@inline
export function load4<S>(address: usize): v128 {
  if (sizeof<S>() == 4) return v128.load(address)
  if (isSigned<S>()) return i32x4.shl(v128.load16x4_u(address), 16)
  return loadHalf4(address)
}
