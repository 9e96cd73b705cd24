// What an MLP does between its matmuls.

import { exp4 } from './exponential'

/** gate = silu(gate) * up over `count` values (whole vectors of four); silu(x) = x / (1 + e^-x). arXiv 2002.05202. */
export function siluMultiply(gate: usize, up: usize, count: i32): void {
  const end = gate + <usize>count * 4
  const one = f32x4.splat(1)
  for (; gate < end; gate += 16, up += 16) {
    const x = v128.load(gate)
    const silu = f32x4.div(x, f32x4.add(one, exp4(f32x4.neg(x))))
    v128.store(gate, f32x4.mul(silu, v128.load(up)))
  }
}
