// e^x of four float32, within 2 units in the last place. Cephes' expf: x = n ln 2 + r, e^x = 2^n p(r).

/** 1.5 · 2^23: a float32 below 2^22 that it is added to loses its binary places, to nearest, ties to even. */
export const ROUNDER: f32 = 12582912

/** e^x for x clamped to [-87, 88], where the result is a normal float32. */
// @ts-ignore: decorator
@inline
export function exp4(x: v128): v128 {
  x = f32x4.max(f32x4.min(x, f32x4.splat(88)), f32x4.splat(-87))
  const sum = f32x4.add(f32x4.mul(x, f32x4.splat(1.44269504088896341)), f32x4.splat(ROUNDER))
  const n = f32x4.sub(sum, f32x4.splat(ROUNDER))
  let r = f32x4.sub(x, f32x4.mul(n, f32x4.splat(0.693359375)))
  r = f32x4.sub(r, f32x4.mul(n, f32x4.splat(-2.12194440e-4)))
  let p = f32x4.add(f32x4.mul(f32x4.splat(1.9875691500e-4), r), f32x4.splat(1.3981999507e-3))
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(8.3334519073e-3))
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(4.1665795894e-2))
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(1.6666665459e-1))
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(5.0000001201e-1))
  p = f32x4.add(f32x4.add(f32x4.mul(p, f32x4.mul(r, r)), r), f32x4.splat(1))
  // The low bits of `sum` are n; all others go.
  const power = i32x4.shl(i32x4.add(sum, i32x4.splat(127)), 23)
  return f32x4.mul(p, power)
}
