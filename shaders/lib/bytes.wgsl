// The four bytes of a u32 as floats, the lowest first. Written so that drivers find their byte-to-float conversion.
fn bytes_of(word: u32) -> vec4<f32> {
  return vec4<f32>((vec4<u32>(word) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(0xffu));
}

// Integer v of u32 i of a word of nibbles: values 8i .. 8i + 3 are the low halves of its bytes, 8i + 4 .. 8i + 7 the high ones.
fn nibbles_of(word: u32, high: u32) -> vec4<f32> {
  return bytes_of((word >> (high * 4u)) & 0x0f0f0f0fu);
}
