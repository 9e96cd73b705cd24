// The KV cache in float32: `keys` is read as quads of dims, `values` and what is written word by word.
alias KeyQuad = vec4<f32>;
alias KvWord = f32;

const KV_WORD_DIMS = 1u;

fn unpack_key(quad: KeyQuad) -> vec4<f32> {
  return quad;
}

/// Dim `dim` of the word it lies in.
fn unpack_value(word: KvWord, dim: u32) -> f32 {
  return word;
}

/// A word's dims; `second` is not in it.
fn pack_kv(first: f32, second: f32) -> KvWord {
  return first;
}
