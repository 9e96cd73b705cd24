// 8-bit weights in groups of 16 = one word: (byte - 128) * scale, a float32 for each group in the plane `scales`. Holds GGUF's
// Q6_K, Q3_K and IQ4_XS without loss, whose scales are products of up to 19 bits.
alias WeightWord = vec4<u32>;

const WORD_QUADS = 4u;

fn scale_of(row: u32, word: u32, words: u32) -> vec2<f32> {
  let scale = bitcast<f32>(scales[row * words + word]);
  return vec2<f32>(scale, -128.0 * scale);
}

fn unpack_quad(word: WeightWord, quad: u32, scale: vec2<f32>) -> vec4<f32> {
  return fma(bytes_of(word[quad]), vec4<f32>(scale.x), vec4<f32>(scale.y));
}
