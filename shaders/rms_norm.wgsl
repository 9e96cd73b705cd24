// Formula:   output[r, i] = input[r, i] / sqrt(mean(input[r]^2) + epsilon) * weight[i]
// Shapes:    input, output [rows, width] f32, rows 4 * stride apart; weight [width] f32 (padded with zeros to 4 * stride)
// Dispatch:  (rows, 1, 1) workgroups of 64
// Reduction: lane l sums the quads l, l + 64, ... in order (four partial sums, then (x + y) + (z + w)); then the tree of lib/reduce.wgsl
// Source:    Zhang & Sennrich 2019 (arXiv 1910.07467), with Hugging Face's order: f32 throughout, weight last
// include: lib/reduce.wgsl

struct Params {
  width: u32, // values in a row
  stride: u32, // vec4s from row to row; padding values are zero
  epsilon: f32,
  reserved: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> input: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> output: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let base = group.x * params.stride;
  var squares = vec4<f32>(0.0);
  for (var i = lane; i < params.stride; i += REDUCE_LANES) {
    let x = input[base + i];
    squares = fma(x, x, squares);
  }
  let total = reduce_sum(lane, (squares.x + squares.y) + (squares.z + squares.w));
  // 1 / sqrt, not inverseSqrt: drivers may answer the latter from a table.
  let factor = 1.0 / sqrt(total / f32(params.width) + params.epsilon);
  for (var i = lane; i < params.stride; i += REDUCE_LANES) {
    output[base + i] = (input[base + i] * factor) * weight[i];
  }
}
