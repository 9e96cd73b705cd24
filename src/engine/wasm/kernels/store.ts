// What a matmul does with the sums of an octet.
//
// Here and in all kernels, vectors that lie side by side are loaded before one of them is stored, and the higher one is
// stored first: so V8 makes one instruction of both where its vectors have 256 bits.

/**
 * out = value + bias, or out += value + bias, of eight outputs: four in `low`, four in `high`; `bias` is 0 or the address
 * of eight values.
 */
// @ts-ignore: decorator
@inline
export function finish(out: usize, low: v128, high: v128, bias: usize, add: bool): void {
  if (bias != 0) {
    low = f32x4.add(low, v128.load(bias))
    high = f32x4.add(high, v128.load(bias, 16))
  }
  if (add) {
    low = f32x4.add(v128.load(out), low)
    high = f32x4.add(v128.load(out, 16), high)
  }
  v128.store(out, high, 16)
  v128.store(out, low)
}
