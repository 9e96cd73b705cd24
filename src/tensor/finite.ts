/** Whether every value is a number, and no infinity: what a broken machine sends first is NaN. */
export function allFinite(values: Float32Array): boolean {
  for (let i = 0; i < values.length; i++) if (!Number.isFinite(values[i])) return false
  return true
}
