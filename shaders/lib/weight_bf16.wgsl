// Weights as stored: bfloat16 (the upper half of a float32), 8 in a word, the lower index in the lower bits.
alias WeightWord = vec4<u32>;

const WORD_QUADS = 2u;

fn scale_of(row: u32, word: u32, words: u32) -> vec2<f32> {
  return vec2<f32>(1.0, 0.0);
}

fn unpack_quad(word: WeightWord, quad: u32, scale: vec2<f32>) -> vec4<f32> {
  let pair = vec2<u32>(word[quad * 2u], word[quad * 2u + 1u]);
  let even = bitcast<vec2<f32>>(pair << vec2<u32>(16u));
  let odd = bitcast<vec2<f32>>(pair & vec2<u32>(0xffff0000u));
  return vec4<f32>(even.x, odd.x, even.y, odd.y);
}
