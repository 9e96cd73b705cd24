// Weights as stored: float32, 4 in a word.
alias WeightWord = vec4<f32>;

const WORD_QUADS = 1u;

fn scale_of(row: u32, word: u32, words: u32) -> vec2<f32> {
  return vec2<f32>(1.0, 0.0);
}

fn unpack_quad(word: WeightWord, quad: u32, scale: vec2<f32>) -> vec4<f32> {
  return word;
}
