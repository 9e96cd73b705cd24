// Four weights of a row as stored: float32.
alias WeightWord = vec4<f32>;

fn unpack_weight(word: WeightWord) -> vec4<f32> {
  return word;
}
