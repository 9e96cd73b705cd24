/** max |actual - expected| ÷ max |expected|, of as many values as `expected` has; not finite when a value is no number. */
export function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  let difference = 0
  let largest = 0
  for (let i = 0; i < expected.length; i++) {
    const gap = Math.abs((actual[i] ?? Number.NaN) - expected[i]!)
    if (!(gap <= difference)) difference = Number.isNaN(gap) ? Infinity : gap
    largest = Math.max(largest, Math.abs(expected[i]!))
  }
  return largest === 0 ? difference : difference / largest
}
