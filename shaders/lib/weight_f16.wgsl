// Four weights of a row as stored: IEEE half, two in a u32, the lower index in the lower bits.
// unpack2x16float is core WGSL: no shader-f16 feature needed, and widening is exact.
alias WeightWord = vec2<u32>;

fn unpack_weight(word: WeightWord) -> vec4<f32> {
  return vec4<f32>(unpack2x16float(word.x), unpack2x16float(word.y));
}
