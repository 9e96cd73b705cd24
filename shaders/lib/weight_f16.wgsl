// Weights as stored: IEEE half, 8 in a word, the lower index in the lower bits.
// unpack2x16float is core WGSL: no shader-f16 feature needed, and widening is exact.
alias WeightWord = vec4<u32>;

const WORD_QUADS = 2u;

fn scale_of(row: u32, word: u32, words: u32) -> vec2<f32> {
  return vec2<f32>(1.0, 0.0);
}

fn unpack_quad(word: WeightWord, quad: u32, scale: vec2<f32>) -> vec4<f32> {
  return vec4<f32>(unpack2x16float(word[quad * 2u]), unpack2x16float(word[quad * 2u + 1u]));
}
