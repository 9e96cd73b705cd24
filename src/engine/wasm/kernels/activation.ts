// What an MLP does between its matmuls.

import { ACTIVATION_GELU, ACTIVATION_SILU } from '../layout'
import { exp4 } from './exponential'

/** x = activation(x), times `up` unless that is 0, over `count` values (whole vectors of four). arXiv 2002.05202. */
export function activate(activation: i32, x: usize, up: usize, count: i32): void {
  if (activation == ACTIVATION_SILU) activateAll<u8>(x, up, count)
  else if (activation == ACTIVATION_GELU) activateAll<u16>(x, up, count)
  else activateAll<u32>(x, up, count)
}

/** A: a type that stands for the activation, so that each has a loop of its own. */
function activateAll<A>(x: usize, up: usize, count: i32): void {
  const end = x + <usize>count * 4
  const pairs = x + <usize>(count & ~7) * 4
  if (up == 0) {
    for (; x < pairs; x += 32) {
      const low = activate4<A>(v128.load(x))
      const high = activate4<A>(v128.load(x, 16))
      v128.store(x, high, 16)
      v128.store(x, low)
    }
    if (x < end) v128.store(x, activate4<A>(v128.load(x)))
    return
  }
  for (; x < pairs; x += 32, up += 32) {
    const low = f32x4.mul(activate4<A>(v128.load(x)), v128.load(up))
    const high = f32x4.mul(activate4<A>(v128.load(x, 16)), v128.load(up, 16))
    v128.store(x, high, 16)
    v128.store(x, low)
  }
  if (x < end) v128.store(x, f32x4.mul(activate4<A>(v128.load(x)), v128.load(up)))
}

// @ts-ignore: decorator
@inline
function activate4<A>(x: v128): v128 {
  if (sizeof<A>() == 1) return silu4(x)
  if (sizeof<A>() == 2) return gelu4(x)
  return geluTanh4(x)
}

/** x / (1 + e^-x) */
// @ts-ignore: decorator
@inline
function silu4(x: v128): v128 {
  return f32x4.div(x, f32x4.add(f32x4.splat(1), exp4(f32x4.neg(x))))
}

/** 0.5 x (1 + tanh(u)) = x / (1 + e^-2u), u = sqrt(2/pi) (x + 0.044715 x³). arXiv 1606.08415. */
// @ts-ignore: decorator
@inline
function geluTanh4(x: v128): v128 {
  const square = f32x4.mul(x, x)
  const inner = f32x4.add(f32x4.splat(1), f32x4.mul(f32x4.splat(0.044715), square))
  const u = f32x4.mul(f32x4.mul(x, inner), f32x4.splat(-1.5957691216057308))
  return f32x4.div(x, f32x4.add(f32x4.splat(1), exp4(u)))
}

/**
 * x Φ(x), exact by the error function: with q = erfc(|x| / sqrt 2) / 2, x - x q or, of a negative x, x q, so that
 * nothing cancels. erfc z = e^-z² P(t), t = 1 / (1 + p z): Abramowitz and Stegun 7.1.26, within 1.5e-7.
 */
// @ts-ignore: decorator
@inline
function gelu4(x: v128): v128 {
  const z = f32x4.mul(f32x4.abs(x), f32x4.splat(0.7071067811865476))
  const t = f32x4.div(f32x4.splat(1), f32x4.add(f32x4.splat(1), f32x4.mul(f32x4.splat(0.3275911), z)))
  let p = f32x4.add(f32x4.mul(f32x4.splat(0.5307027145), t), f32x4.splat(-0.7265760135))
  p = f32x4.add(f32x4.mul(p, t), f32x4.splat(0.710706871))
  p = f32x4.add(f32x4.mul(p, t), f32x4.splat(-0.142248368))
  p = f32x4.add(f32x4.mul(p, t), f32x4.splat(0.127414796))
  const q = f32x4.mul(f32x4.mul(p, t), exp4(f32x4.neg(f32x4.mul(z, z))))
  const tail = f32x4.mul(x, q)
  return v128.bitselect(tail, f32x4.sub(x, tail), f32x4.lt(x, f32x4.splat(0)))
}
