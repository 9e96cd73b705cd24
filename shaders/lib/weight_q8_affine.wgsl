// 8-bit weights in groups of 16 = one word: byte * scale + minimum, a pair of float32 for each group in the plane `scales`.
// Holds GGUF's formats of 2 and 5 bits with a minimum (Q2_K, Q5_1, Q5_K) without loss.
alias WeightWord = vec4<u32>;

const WORD_QUADS = 4u;

fn scale_of(row: u32, word: u32, words: u32) -> vec2<f32> {
  let at = (row * words + word) * 2u;
  return bitcast<vec2<f32>>(vec2<u32>(scales[at], scales[at + 1u]));
}

fn unpack_quad(word: WeightWord, quad: u32, scale: vec2<f32>) -> vec4<f32> {
  return fma(bytes_of(word[quad]), vec4<f32>(scale.x), vec4<f32>(scale.y));
}
