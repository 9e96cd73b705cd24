// Four weights of a row as stored: bfloat16 (the upper half of a float32), two in a u32, the lower index in the lower bits.
alias WeightWord = vec2<u32>;

fn unpack_weight(word: WeightWord) -> vec4<f32> {
  let even = bitcast<vec2<f32>>(word << vec2<u32>(16u));
  let odd = bitcast<vec2<f32>>(word & vec2<u32>(0xffff0000u));
  return vec4<f32>(even.x, odd.x, even.y, odd.y);
}
