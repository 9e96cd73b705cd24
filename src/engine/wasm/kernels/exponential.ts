// e^x of four float32, within 2 units in the last place. Cephes' expf: x = n ln 2 + r, e^x = 2^n p(r).

/** 1.5 · 2^23: a float32 below 2^22 that it is added to loses its binary places, to nearest, ties to even. */
export const ROUNDER: f32 = 12582912

/** Loaded, because a constant vector would be built of three instructions in every turn of a loop. */
const CONSTANTS = memory.data<f32>([
  88, -87, 1.44269504088896341, ROUNDER, 0.693359375, -2.1219444e-4, 1.98756915e-4, 1.3981999507e-3, 8.3334519073e-3,
  4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1, 1,
])

// @ts-ignore: decorator
@inline
function constant(index: usize): v128 {
  return v128.load32_splat(CONSTANTS + index * 4)
}

/** e^x for x clamped to [-87, 88], where the result is a normal float32. */
// @ts-ignore: decorator
@inline
export function exp4(x: v128): v128 {
  x = f32x4.pmax(f32x4.pmin(x, constant(0)), constant(1))
  const sum = f32x4.add(f32x4.mul(x, constant(2)), constant(3))
  const n = f32x4.sub(sum, constant(3))
  let r = f32x4.sub(x, f32x4.mul(n, constant(4)))
  r = f32x4.sub(r, f32x4.mul(n, constant(5)))
  let p = f32x4.add(f32x4.mul(constant(6), r), constant(7))
  p = f32x4.add(f32x4.mul(p, r), constant(8))
  p = f32x4.add(f32x4.mul(p, r), constant(9))
  p = f32x4.add(f32x4.mul(p, r), constant(10))
  p = f32x4.add(f32x4.mul(p, r), constant(11))
  p = f32x4.add(f32x4.add(f32x4.mul(p, f32x4.mul(r, r)), r), constant(12))
  // The low bits of `sum` are n; all others go.
  const power = i32x4.shl(i32x4.add(sum, i32x4.splat(127)), 23)
  return f32x4.mul(p, power)
}
