// Formula:   of each head x of q and k, after x = x / sqrt(mean(x^2) + epsilon) * head_norm when has_norm:
//              for i < rotary_dim / 2, h = i + rotary_dim / 2:
//                out[i] = x[i] * cos - x[h] * sin,  out[h] = x[h] * cos + x[i] * sin;  other dims and v unchanged
//            q is changed in place; k and v go to the cache pages of the row's position, rounded as the prelude says
// Shapes:    qkv [rows, (heads + 2 * kv_heads) * head_dim] f32, q then k then v, rows `stride` values apart; head_norm
//            [2, head_dim], q's weight then k's; rotation [positions, rotary_dim / 2] vec2 (cos, sin, made on the CPU in float64);
//            keys and values: lib/kv_page.wgsl. head_dim at most 256; rotary_dim = 0: no rotation
// Dispatch:  (heads + 2 * kv_heads, rows, 1) workgroups of 64
// Reduction: mean of squares: lane l sums the dims l, l + 64, ... in order, then the tree of lib/reduce.wgsl
// Source:    Su et al. 2021 (arXiv 2104.09864), half-split layout as Hugging Face's rotate_half; head norms as Qwen3's
// Prelude:   lib/kv_f32.wgsl or lib/kv_f16.wgsl (KvWord, KV_WORD_DIMS, pack_kv)
// include: lib/kv_page.wgsl
// include: lib/reduce.wgsl

const MAX_DIM = 256u;

struct Params {
  heads: u32,
  kv_heads: u32,
  head_dim: u32, // values
  rotary_dim: u32, // values, even, at most head_dim
  stride: u32, // values from row to row of qkv
  padded_dim: u32, // head_dim rounded up to a multiple of 4: the cache's
  has_norm: u32, // 1 or 0
  epsilon: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> rows: array<Row>;
@group(0) @binding(2) var<storage, read> pages: array<u32>;
@group(0) @binding(3) var<storage, read> rotation: array<vec2<f32>>;
@group(0) @binding(4) var<storage, read> head_norm: array<f32>;
@group(0) @binding(5) var<storage, read_write> qkv: array<f32>;
@group(0) @binding(6) var<storage, read_write> keys: array<KvWord>;
@group(0) @binding(7) var<storage, read_write> values: array<KvWord>;

var<workgroup> head: array<f32, MAX_DIM>;
// What goes to the cache: a word may hold dims of two lanes.
var<workgroup> stored: array<f32, MAX_DIM>;

fn stored_word(word: u32) -> KvWord {
  let first = word * KV_WORD_DIMS;
  return pack_kv(stored[first], stored[first + KV_WORD_DIMS - 1u]);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let row = rows[group.y];
  let page = pages[row.table + row.position / PAGE_TOKENS];
  let slot = row.position % PAGE_TOKENS;
  let source = group.y * params.stride + group.x * params.head_dim;

  // The cache's padding is zero, also in the word it shares with the last dim.
  for (var i = params.head_dim + lane; i < params.padded_dim; i += 64u) {
    stored[i] = 0.0;
  }
  let words = params.padded_dim / KV_WORD_DIMS;
  if (group.x >= params.heads + params.kv_heads) {
    for (var i = lane; i < params.head_dim; i += 64u) {
      stored[i] = qkv[source + i];
    }
    workgroupBarrier();
    let kv_head = group.x - params.heads - params.kv_heads;
    let first = value_index(page, slot, kv_head, params.kv_heads, params.padded_dim);
    for (var word = lane; word < words; word += 64u) {
      values[first / KV_WORD_DIMS + word] = stored_word(word);
    }
    return;
  }

  let is_key = group.x >= params.heads;
  var squares = 0.0;
  for (var i = lane; i < params.head_dim; i += 64u) {
    let x = qkv[source + i];
    head[i] = x;
    squares = fma(x, x, squares);
  }
  workgroupBarrier();
  if (params.has_norm != 0u) {
    let mean = reduce_sum(lane, squares) / f32(params.head_dim);
    let factor = 1.0 / sqrt(mean + params.epsilon);
    let weights = select(0u, params.head_dim, is_key);
    for (var i = lane; i < params.head_dim; i += 64u) {
      head[i] = (head[i] * factor) * head_norm[weights + i];
    }
    workgroupBarrier();
  }

  let half = params.rotary_dim / 2u;
  for (var i = lane; i < params.head_dim; i += 64u) {
    var x = head[i];
    if (i < params.rotary_dim) {
      let turn = rotation[row.position * half + i % half];
      if (i < half) {
        x = x * turn.x - head[i + half] * turn.y;
      } else {
        x = x * turn.x + head[i - half] * turn.y;
      }
    }
    if (is_key) {
      stored[i] = x;
    } else {
      qkv[source + i] = x;
    }
  }
  if (!is_key) {
    return;
  }
  workgroupBarrier();
  let quads = params.padded_dim / 4u;
  for (var word = lane; word < words; word += 64u) {
    let dim = word * KV_WORD_DIMS;
    let quad = key_index(page, slot, group.x - params.heads, params.kv_heads, quads, dim / 4u);
    keys[(quad * 4u + dim % 4u) / KV_WORD_DIMS] = stored_word(word);
  }
}
