// The KV cache in IEEE halves, two neighbouring dims in a word, the lower in the lower bits: half the memory and traffic.
// pack2x16float is core WGSL: no shader-f16 feature needed. Widening is exact, so sums are in float32 as with kv_f32.wgsl.
alias KeyQuad = vec2<u32>;
alias KvWord = u32;

const KV_WORD_DIMS = 2u;
const LARGEST_HALF = 65504.0; // WGSL promises nothing about what does not fit

fn unpack_key(quad: KeyQuad) -> vec4<f32> {
  return vec4<f32>(unpack2x16float(quad.x), unpack2x16float(quad.y));
}

/// Dim `dim` of the word it lies in.
fn unpack_value(word: KvWord, dim: u32) -> f32 {
  let pair = unpack2x16float(word);
  return select(pair.x, pair.y, (dim & 1u) != 0u);
}

fn pack_kv(first: f32, second: f32) -> KvWord {
  return pack2x16float(clamp(vec2<f32>(first, second), vec2<f32>(-LARGEST_HALF), vec2<f32>(LARGEST_HALF)));
}
