// 8-bit weights in groups of 32 = two words of 16: (byte - 128) * scale, a float16 for each group in the plane `scales`, two in
// a u32, each row beginning a new one. Holds GGUF's Q8_0, Q5_0 and IQ4_NL without loss.
alias WeightWord = vec4<u32>;

const WORD_QUADS = 4u;

fn scale_of(row: u32, word: u32, words: u32) -> vec2<f32> {
  let pair = unpack2x16float(scales[row * ((words + 3u) / 4u) + word / 4u]);
  let scale = select(pair.x, pair.y, (word & 2u) != 0u);
  return vec2<f32>(scale, -128.0 * scale);
}

fn unpack_quad(word: WeightWord, quad: u32, scale: vec2<f32>) -> vec4<f32> {
  return fma(bytes_of(word[quad]), vec4<f32>(scale.x), vec4<f32>(scale.y));
}
