// Norms of one row.

/** y = x / sqrt(mean(x²) + epsilon) * weight. arXiv 1910.07467, Hugging Face's order. Sums in float64. */
export function rmsNorm(x: usize, columns: i32, weight: usize, epsilon: f32, y: usize): void {
  const k = <usize>columns * 4
  const whole = k & ~15
  let low = f64x2.splat(0)
  let high = f64x2.splat(0)
  let i: usize = 0
  for (; i < whole; i += 16) {
    const a = f64x2.promote_low_f32x4(v128.load64_zero(x + i))
    const b = f64x2.promote_low_f32x4(v128.load64_zero(x + i + 8))
    low = f64x2.add(low, f64x2.mul(a, a))
    high = f64x2.add(high, f64x2.mul(b, b))
  }
  const sums = f64x2.add(low, high)
  let squares = f64x2.extract_lane(sums, 0) + f64x2.extract_lane(sums, 1)
  for (; i < k; i += 4) {
    const value = <f64>load<f32>(x + i)
    squares += value * value
  }
  const scale = <f32>(1 / Math.sqrt(squares / <f64>columns + <f64>epsilon))
  const factor = f32x4.splat(scale)
  for (i = 0; i < whole; i += 16) {
    v128.store(y + i, f32x4.mul(f32x4.mul(v128.load(x + i), factor), v128.load(weight + i)))
  }
  for (; i < k; i += 4) store<f32>(y + i, load<f32>(x + i) * scale * load<f32>(weight + i))
}
