// Formula:   output[r, h] = softmax over j <= position(r) of (q[r, h] . k[j, h / group] * scale) times v[j, h / group]
// Shapes:    q = the first heads * head_dim values of each row of qkv (rows qkv_stride apart), f32; keys, values:
//            lib/kv_page.wgsl; output [rows, heads * head_dim], rows output_stride values apart. head_dim at most 256
// Dispatch:  (heads, rows, 1) workgroups of 64: one query and head each, decode and prefill alike
// Reduction: keys in tiles of 64 from position 0 on, online softmax tile by tile: score = quads in order with fma (four partial
//            sums, then (x + y) + (z + w)); tile maximum and sum by the tree of lib/reduce.wgsl; values of a tile in order of
//            position with fma. Depends on the query's own position only, never on the batch or on how a prompt was cut
// Source:    Milakov & Gimelshein 2018 (arXiv 1805.02867), Dao et al. 2022 (arXiv 2205.14135)
// include: lib/kv_page.wgsl
// include: lib/reduce.wgsl

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
  output_stride: u32, // values from row to row
  scale: f32, // on q . k
  reserved: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> rows: array<Row>;
@group(0) @binding(2) var<storage, read> pages: array<u32>;
@group(0) @binding(3) var<storage, read> qkv: array<f32>;
@group(0) @binding(4) var<storage, read> keys: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> values: array<f32>;
@group(0) @binding(6) var<storage, read_write> output: array<f32>;

var<workgroup> query: array<vec4<f32>, MAX_QUADS>;
var<workgroup> probabilities: array<f32, TILE>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let head = group.x;
  let kv_head = head / (params.heads / params.kv_heads);
  let row = rows[group.y];
  let length = row.position + 1u;
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
  for (var first = 0u; first < length; first += TILE) {
    let count = min(TILE, length - first);

    var score = LOWEST;
    if (lane < count) {
      let position = first + lane;
      let page = pages[row.table + position / PAGE_TOKENS];
      var products = vec4<f32>(0.0);
      for (var quad = 0u; quad < quads; quad++) {
        let key = keys[key_index(page, position % PAGE_TOKENS, kv_head, params.kv_heads, quads, quad)];
        products = fma(query[quad], key, products);
      }
      score = ((products.x + products.y) + (products.z + products.w)) * params.scale;
    }
    let new_largest = max(largest, reduce_max(lane, score));
    var probability = 0.0;
    if (lane < count) {
      probability = exp(score - new_largest);
    }
    probabilities[lane] = probability;
    var keep = 0.0; // what earlier tiles' sums are worth under the new maximum
    if (first > 0u) {
      keep = exp(largest - new_largest);
    }
    total = total * keep + reduce_sum(lane, probability);
    largest = new_largest;

    for (var d = 0u; d < MAX_DIMS_A_LANE; d++) {
      let dim = lane + d * 64u;
      if (dim < params.head_dim) {
        var sum = sums[d] * keep;
        for (var base = 0u; base < count; base += PAGE_TOKENS) {
          let page = pages[row.table + (first + base) / PAGE_TOKENS];
          let in_page = min(PAGE_TOKENS, count - base);
          let start = value_index(page, 0u, kv_head, params.kv_heads, params.padded_dim) + dim;
          for (var slot = 0u; slot < in_page; slot++) {
            sum = fma(probabilities[base + slot], values[start + slot * params.padded_dim], sum);
          }
        }
        sums[d] = sum;
      }
    }
  }

  for (var d = 0u; d < MAX_DIMS_A_LANE; d++) {
    let dim = lane + d * 64u;
    if (dim < params.head_dim) {
      output[group.y * params.output_stride + head * params.head_dim + dim] = sums[d] / total;
    }
  }
}
