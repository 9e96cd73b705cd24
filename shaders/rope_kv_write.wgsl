// Formula:   for q and k, i < rotary_dim / 2, h = i + rotary_dim / 2:
//              out[i] = x[i] * cos - x[h] * sin,  out[h] = x[h] * cos + x[i] * sin;  other dims and v unchanged
//            q is rotated in place; k and v go to the cache pages of the row's position
// Shapes:    qkv [rows, (heads + 2 * kv_heads) * head_dim] f32, q then k then v, rows `stride` values apart;
//            rotation [positions, rotary_dim / 2] vec2 (cos, sin, made on the CPU in float64); keys and values: lib/kv_page.wgsl
// Dispatch:  (heads + 2 * kv_heads, rows, 1) workgroups of 64
// Reduction: none
// Source:    Su et al. 2021 (arXiv 2104.09864), half-split layout as Hugging Face's rotate_half
// include: lib/kv_page.wgsl

struct Params {
  heads: u32,
  kv_heads: u32,
  head_dim: u32, // values
  rotary_dim: u32, // values, even, at most head_dim
  stride: u32, // values from row to row of qkv
  padded_dim: u32, // head_dim rounded up to a multiple of 4: the cache's
  reserved_0: u32,
  reserved_1: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> rows: array<Row>;
@group(0) @binding(2) var<storage, read> pages: array<u32>;
@group(0) @binding(3) var<storage, read> rotation: array<vec2<f32>>;
@group(0) @binding(4) var<storage, read_write> qkv: array<f32>;
@group(0) @binding(5) var<storage, read_write> keys: array<f32>;
@group(0) @binding(6) var<storage, read_write> values: array<f32>;

fn store_key(page: u32, slot: u32, kv_head: u32, dim: u32, value: f32) {
  let quads = params.padded_dim / 4u;
  keys[key_index(page, slot, kv_head, params.kv_heads, quads, dim / 4u) * 4u + dim % 4u] = value;
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let row = rows[group.y];
  let page = pages[row.table + row.position / PAGE_TOKENS];
  let slot = row.position % PAGE_TOKENS;
  let source = group.y * params.stride + group.x * params.head_dim;

  if (group.x >= params.heads + params.kv_heads) {
    let kv_head = group.x - params.heads - params.kv_heads;
    let target_base = value_index(page, slot, kv_head, params.kv_heads, params.padded_dim);
    for (var i = lane; i < params.head_dim; i += 64u) {
      values[target_base + i] = qkv[source + i];
    }
    return;
  }

  let is_key = group.x >= params.heads;
  let kv_head = group.x - params.heads; // only meaningful for keys
  let half = params.rotary_dim / 2u;
  for (var i = lane; i < half; i += 64u) {
    let turn = rotation[row.position * half + i];
    let a = qkv[source + i];
    let b = qkv[source + half + i];
    let rotated_a = a * turn.x - b * turn.y;
    let rotated_b = b * turn.x + a * turn.y;
    if (is_key) {
      store_key(page, slot, kv_head, i, rotated_a);
      store_key(page, slot, kv_head, half + i, rotated_b);
    } else {
      qkv[source + i] = rotated_a;
      qkv[source + half + i] = rotated_b;
    }
  }
  if (is_key) {
    for (var i = params.rotary_dim + lane; i < params.head_dim; i += 64u) {
      store_key(page, slot, kv_head, i, qkv[source + i]);
    }
  }
}
