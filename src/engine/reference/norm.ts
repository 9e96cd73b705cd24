import type { NormSpec } from '../../model/spec.ts'

/** The spec's norm of each row of x [rows, weight.length]; `bias` only with layer norms. */
export function normalize(
  norm: NormSpec,
  x: Float32Array,
  rows: number,
  weight: Float32Array,
  bias: Float32Array | undefined,
): Float32Array {
  return norm.kind === 'rms'
    ? rmsNorm(x, rows, weight, norm.epsilon)
    : layerNorm(x, rows, weight, bias ?? new Float32Array(weight.length), norm.epsilon)
}

/** Root-mean-square norm of each row: x / sqrt(mean(x²) + epsilon) * weight. arXiv 1910.07467, Hugging Face's order. */
export function rmsNorm(x: Float32Array, rows: number, weight: Float32Array, epsilon: number): Float32Array {
  const columns = weight.length
  const y = new Float32Array(rows * columns)
  for (let r = 0; r < rows; r++) {
    const base = r * columns
    let squares = 0
    for (let c = 0; c < columns; c++) squares += (x[base + c] as number) ** 2
    const scale = 1 / Math.sqrt(squares / columns + epsilon)
    for (let c = 0; c < columns; c++)
      y[base + c] = Math.fround((x[base + c] as number) * scale) * (weight[c] as number)
  }
  return y
}

/** Layer norm of each row: (x - mean) / sqrt(mean((x - mean)²) + epsilon) * weight + bias. arXiv 1607.06450. */
export function layerNorm(
  x: Float32Array,
  rows: number,
  weight: Float32Array,
  bias: Float32Array,
  epsilon: number,
): Float32Array {
  const columns = weight.length
  const y = new Float32Array(rows * columns)
  for (let r = 0; r < rows; r++) {
    const base = r * columns
    let sum = 0
    for (let c = 0; c < columns; c++) sum += x[base + c] as number
    const mean = sum / columns
    let squares = 0
    for (let c = 0; c < columns; c++) squares += ((x[base + c] as number) - mean) ** 2
    const scale = 1 / Math.sqrt(squares / columns + epsilon)
    for (let c = 0; c < columns; c++)
      y[base + c] = ((x[base + c] as number) - mean) * scale * (weight[c] as number) + (bias[c] as number)
  }
  return y
}
