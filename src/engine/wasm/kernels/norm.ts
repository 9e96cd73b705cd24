// Norms of one row.

/** y = the norm of x: a layer norm where there is a bias, an RMSNorm where it is 0. */
export function normalize(x: usize, columns: i32, weight: usize, bias: usize, epsilon: f32, y: usize): void {
  if (bias == 0) rmsNorm(x, columns, weight, epsilon, y)
  else layerNorm(x, columns, weight, bias, epsilon, y)
}

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

/** y = (x - mean) / sqrt(mean((x - mean)²) + epsilon) * weight + bias. arXiv 1607.06450. All in float64. */
function layerNorm(x: usize, columns: i32, weight: usize, bias: usize, epsilon: f32, y: usize): void {
  const k = <usize>columns * 4
  const even = k & ~7
  let sums = f64x2.splat(0)
  let i: usize = 0
  for (; i < even; i += 8) sums = f64x2.add(sums, load2(x + i))
  let sum = f64x2.extract_lane(sums, 0) + f64x2.extract_lane(sums, 1)
  if (i < k) sum += <f64>load<f32>(x + i)
  const mean = sum / <f64>columns
  const means = f64x2.splat(mean)
  let squares = f64x2.splat(0)
  for (i = 0; i < even; i += 8) {
    const d = f64x2.sub(load2(x + i), means)
    squares = f64x2.add(squares, f64x2.mul(d, d))
  }
  let square = f64x2.extract_lane(squares, 0) + f64x2.extract_lane(squares, 1)
  if (i < k) square += (<f64>load<f32>(x + i) - mean) * (<f64>load<f32>(x + i) - mean)
  const scale = 1 / Math.sqrt(square / <f64>columns + <f64>epsilon)
  const scales = f64x2.splat(scale)
  for (i = 0; i < even; i += 8) {
    const normed = f64x2.mul(f64x2.mul(f64x2.sub(load2(x + i), means), scales), load2(weight + i))
    v128.store64_lane(y + i, f32x4.demote_f64x2_zero(f64x2.add(normed, load2(bias + i))), 0)
  }
  if (i < k) {
    const normed = (<f64>load<f32>(x + i) - mean) * scale * <f64>load<f32>(weight + i)
    store<f32>(y + i, <f32>(normed + <f64>load<f32>(bias + i)))
  }
}

/** Two float32 at `address` as float64. */
// @ts-ignore: decorator
@inline
function load2(address: usize): v128 {
  return f64x2.promote_low_f32x4(v128.load64_zero(address))
}
