// 4-bit weights in groups of 32 = one word (lib/bytes.wgsl says which nibble is which): integer * scale + minimum, a pair of
// float16 for each group in the plane `scales`. Holds GGUF's Q4_0 (minimum = -8 * scale) and Q4_1 without loss.
alias WeightWord = vec4<u32>;

const WORD_QUADS = 8u;

fn scale_of(row: u32, word: u32, words: u32) -> vec2<f32> {
  return unpack2x16float(scales[row * words + word]);
}

fn unpack_quad(word: WeightWord, quad: u32, scale: vec2<f32>) -> vec4<f32> {
  return fma(nibbles_of(word[quad / 2u], quad % 2u), vec4<f32>(scale.x), vec4<f32>(scale.y));
}
