// What a matmul does with four finished outputs.

/** out = value + bias, or out += value + bias; `bias` is 0 or the address of four values. */
// @ts-ignore: decorator
@inline
export function finish(out: usize, value: v128, bias: usize, add: bool): void {
  if (bias != 0) value = f32x4.add(value, v128.load(bias))
  if (add) value = f32x4.add(v128.load(out), value)
  v128.store(out, value)
}
