// The one operation whose bits depend on the machine.

/**
 * a * b + c, of float32. With relaxed SIMD the product is not rounded on processors that fuse both (all of x64 with FMA3, all
 * of ARM64), which is a fifth faster and more exact; it is rounded elsewhere. One machine always does the same.
 */
// @ts-ignore: decorator
@inline
export function madd(a: v128, b: v128, c: v128): v128 {
  return ASC_FEATURE_RELAXED_SIMD ? f32x4.relaxed_madd(a, b, c) : f32x4.add(c, f32x4.mul(a, b))
}
