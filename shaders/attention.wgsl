// Formula:   split s of the keys of query (r, head) are those at j in [256 s, 256 (s + 1)), j <= p = position(r), j + window > p:
//              score[j] = POSITIONS = 0: q . k[j] * scale;  1: q . k[j] * scale + b[j];  2: (q . k[j] + b[j]) * scale
//              b[j] = slope[head] * (j - p), or bf16(slope[head] * bf16(j)) when rounded;  m = max score[j]
//              partial[r, head, s] = sum over j of e^(score[j] - m) v[j], then m, then sum over j of e^(score[j] - m)
// Shapes:    q = the first heads * head_dim values of each row of qkv, f32, rows padded to a multiple of 8 values; keys, values:
//            lib/kv_page.wgsl, KV head = head / (heads / kv_heads); slopes [heads]; partial [rows, heads, step.splits,
//            head_dim + 2]. head_dim at most 256. Splits without keys are not written: attention_reduce.wgsl skips them
// Dispatch:  (heads, rows, splits) workgroups of 64: one query, head and split each, decode and prefill alike
// Reduction: keys in tiles of 64 from position 0 on, online softmax tile by tile: score = quads in order with fma (four partial
//            sums, then (x + y) + (z + w)); a tile's sum of e^: four partial sums of every fourth key in order, then (x + y) +
//            (z + w); values of a tile in order of position with fma. Tiles outside the window are passed over. Depends on the query's own position only, never on
//            the batch or on how a prompt was cut
// Source:    Milakov & Gimelshein 2018 (arXiv 1805.02867), Dao et al. 2022 (arXiv 2205.14135), Press et al. 2021 (arXiv 2108.12409)
// Prelude:   lib/kv_f32.wgsl or lib/kv_f16.wgsl (KeyQuad, KvWord, KV_WORD_DIMS, unpack_key, unpack_value), const POSITIONS
// include: lib/kv_page.wgsl
// include: lib/split.wgsl

const TILE = 64u; // keys a tile, one a lane
const MAX_QUADS = 64u; // head_dim / 4
const MAX_DIMS_A_LANE = 4u;
const LOWEST = -3.0e38; // below any score; WGSL promises nothing about infinities

struct Params {
  heads: u32,
  kv_heads: u32,
  head_dim: u32, // values
  padded_dim: u32, // head_dim rounded up to a multiple of 4: the cache's
  qkv_stride: u32, // values from row to row
  scale: f32, // on q . k
  window: u32, // keys a query sees, itself among them; 0xffffffff: all
  rounded: u32, // 1: the bias is rounded to bfloat16
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> rows: array<Row>;
@group(0) @binding(3) var<storage, read> pages: array<u32>;
@group(0) @binding(4) var<storage, read> slopes: array<f32>;
@group(0) @binding(5) var<storage, read> qkv: array<f32>;
@group(0) @binding(6) var<storage, read> keys: array<KeyQuad>;
@group(0) @binding(7) var<storage, read> values: array<KvWord>;
@group(0) @binding(8) var<storage, read_write> partial: array<f32>;

var<workgroup> query: array<vec4<f32>, MAX_QUADS>;
// A tile's scores, then e^(score - largest).
var<workgroup> probabilities: array<f32, TILE>;

/// To the nearest bfloat16, ties to even. Not for numbers that are none.
fn to_bfloat16(value: f32) -> f32 {
  let bits = bitcast<u32>(value);
  return bitcast<f32>((bits + 0x7fffu + ((bits >> 16u) & 1u)) & 0xffff0000u);
}

fn biased(product: f32, head: u32, position: u32, own: u32) -> f32 {
  if (POSITIONS == 0u) {
    return product * params.scale;
  }
  var bias = slopes[head] * -f32(own - position);
  if (params.rounded != 0u) {
    bias = to_bfloat16(slopes[head] * to_bfloat16(f32(position)));
  }
  if (POSITIONS == 1u) {
    return product * params.scale + bias;
  }
  return (product + bias) * params.scale;
}

fn tile_quad(at: u32) -> vec4<f32> {
  return vec4<f32>(probabilities[at], probabilities[at + 1u], probabilities[at + 2u], probabilities[at + 3u]);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let head = group.x;
  let kv_head = head / (params.heads / params.kv_heads);
  let row = rows[group.y];
  let seen = seen_keys(row.position, params.window);
  let begin = max(seen.begin, group.z * SPLIT_KEYS);
  let end = min(seen.end, (group.z + 1u) * SPLIT_KEYS);
  if (begin >= end) {
    return;
  }
  let quads = params.padded_dim / 4u;

  if (lane < quads) {
    var quad = vec4<f32>(0.0);
    for (var i = 0u; i < 4u; i++) {
      let dim = lane * 4u + i;
      if (dim < params.head_dim) {
        quad[i] = qkv[group.y * params.qkv_stride + head * params.head_dim + dim];
      }
    }
    query[lane] = quad;
  }
  workgroupBarrier();

  var largest = LOWEST;
  var total = 0.0;
  var sums: array<f32, MAX_DIMS_A_LANE>;
  let dims_a_lane = (params.head_dim + 63u) / 64u;
  let first_tile = (begin / TILE) * TILE;
  for (var first = first_tile; first < end; first += TILE) {
    let position = first + lane;
    let is_seen = position >= begin && position < end;
    let count = min(TILE, end - first);

    var score = LOWEST;
    if (is_seen) {
      let page = pages[row.table + position / PAGE_TOKENS];
      var products = vec4<f32>(0.0);
      for (var quad = 0u; quad < quads; quad++) {
        let key = unpack_key(keys[key_index(page, position % PAGE_TOKENS, kv_head, params.kv_heads, quads, quad)]);
        products = fma(query[quad], key, products);
      }
      score = biased((products.x + products.y) + (products.z + products.w), head, position, row.position);
    }
    probabilities[lane] = score;
    workgroupBarrier();
    var most = vec4<f32>(LOWEST);
    for (var i = 0u; i < count; i += 4u) {
      most = max(most, tile_quad(i));
    }
    let new_largest = max(largest, max(max(most.x, most.y), max(most.z, most.w)));
    workgroupBarrier();
    var probability = 0.0;
    if (is_seen) {
      probability = exp(score - new_largest);
    }
    probabilities[lane] = probability;
    workgroupBarrier();
    var tile_sums = vec4<f32>(0.0);
    for (var i = 0u; i < count; i += 4u) {
      tile_sums = tile_sums + tile_quad(i);
    }
    var keep = 0.0; // what earlier tiles' sums are worth under the new maximum
    if (first > first_tile) {
      keep = exp(largest - new_largest);
    }
    total = fma(total, keep, (tile_sums.x + tile_sums.y) + (tile_sums.z + tile_sums.w));
    largest = new_largest;

    // The window's first tile begins with keys that are not seen: pages wholly before it are not read.
    let from_slot = (max(begin, first) - first) / PAGE_TOKENS * PAGE_TOKENS;
    for (var d = 0u; d < dims_a_lane; d++) {
      let dim = lane + d * 64u;
      if (dim < params.head_dim) {
        var sum = sums[d] * keep;
        for (var base = from_slot; base < count; base += PAGE_TOKENS) {
          let page = pages[row.table + (first + base) / PAGE_TOKENS];
          let in_page = min(PAGE_TOKENS, count - base);
          let start = value_index(page, 0u, kv_head, params.kv_heads, params.padded_dim) + dim;
          for (var slot = 0u; slot < in_page; slot++) {
            let at = start + slot * params.padded_dim;
            sum = fma(probabilities[base + slot], unpack_value(values[at / KV_WORD_DIMS], at), sum);
          }
        }
        sums[d] = sum;
      }
    }
    workgroupBarrier(); // the next tile's scores go where these probabilities are
  }

  let result = partial_index(group.y, head, group.z, params.heads, step.splits, params.head_dim);
  for (var d = 0u; d < dims_a_lane; d++) {
    let dim = lane + d * 64u;
    if (dim < params.head_dim) {
      partial[result + dim] = sums[d];
    }
  }
  if (lane == 0u) {
    partial[result + params.head_dim] = largest;
    partial[result + params.head_dim + 1u] = total;
  }
}
