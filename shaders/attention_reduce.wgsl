// Formula:   output[r, head] = (sum over splits s of e^(m[s] - m) sum[s]) / (sum over s of e^(m[s] - m) total[s]), m = max m[s]
// Shapes:    partial [rows, heads, step.splits, head_dim + 2], from attention.wgsl; output [rows, heads * head_dim] f32, rows
//            output_stride values apart. head_dim at most 256
// Dispatch:  (heads, rows, 1) workgroups of 64
// Reduction: splits in order, with fma
// Source:    Dao et al. 2023, flash decoding
// include: lib/kv_page.wgsl
// include: lib/split.wgsl

struct Params {
  heads: u32,
  head_dim: u32, // values
  output_stride: u32, // values from row to row
  window: u32, // keys a query sees, itself among them; 0xffffffff: all
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> rows: array<Row>;
@group(0) @binding(3) var<storage, read> partial: array<f32>;
@group(0) @binding(4) var<storage, read_write> output: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let seen = seen_keys(rows[group.y].position, params.window);
  let first = seen.begin / SPLIT_KEYS;
  let last = (seen.end - 1u) / SPLIT_KEYS;
  let stride = params.head_dim + 2u;
  let base = partial_index(group.y, group.x, 0u, params.heads, step.splits, params.head_dim);

  var largest = partial[base + first * stride + params.head_dim];
  for (var split = first + 1u; split <= last; split++) {
    largest = max(largest, partial[base + split * stride + params.head_dim]);
  }
  for (var dim = lane; dim < params.head_dim; dim += 64u) {
    var sum = 0.0;
    var total = 0.0;
    for (var split = first; split <= last; split++) {
      let at = base + split * stride;
      let weight = exp(partial[at + params.head_dim] - largest);
      sum = fma(weight, partial[at + dim], sum);
      total = fma(weight, partial[at + params.head_dim + 1u], total);
    }
    output[group.y * params.output_stride + group.x * params.head_dim + dim] = sum / total;
  }
}
