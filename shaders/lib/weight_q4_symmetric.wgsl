// 4-bit weights in groups of 32 = one word (lib/bytes.wgsl says which nibble is which): (integer - 8) * scale, a float16 for each
// group in the plane `scales`, two in a u32, each row beginning a new one. Holds GGUF's Q4_0 without loss.
alias WeightWord = vec4<u32>;

const WORD_QUADS = 8u;

fn scale_of(row: u32, word: u32, words: u32) -> vec2<f32> {
  let pair = unpack2x16float(scales[row * ((words + 1u) / 2u) + word / 2u]);
  let scale = select(pair.x, pair.y, (word & 1u) != 0u);
  return vec2<f32>(scale, -8.0 * scale);
}

fn unpack_quad(word: WeightWord, quad: u32, scale: vec2<f32>) -> vec4<f32> {
  return fma(nibbles_of(word[quad / 2u], quad % 2u), vec4<f32>(scale.x), vec4<f32>(scale.y));
}
