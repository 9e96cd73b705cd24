// Formula:   output[r, i] = (input[r, i] - m) / sqrt(v + epsilon) * weight[i] + bias[i], m the row's mean, v = mean((input[r] - m)^2)
// Shapes:    input, output [rows, width] f32, rows 4 * stride apart; weight, bias [width] f32 (padded with zeros to 4 * stride)
// Dispatch:  (rows, 1, 1) workgroups of 64
// Reduction: both means: lane l sums the quads l, l + 64, ... in order (four partial sums, then (x + y) + (z + w)); then the tree
//            of lib/reduce.wgsl
// Source:    Ba et al. 2016 (arXiv 1607.06450)
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
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> output: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let base = group.x * params.stride;
  var sums = vec4<f32>(0.0);
  for (var i = lane; i < params.stride; i += REDUCE_LANES) {
    sums = sums + input[base + i];
  }
  let mean = reduce_sum(lane, (sums.x + sums.y) + (sums.z + sums.w)) / f32(params.width);
  var squares = vec4<f32>(0.0);
  for (var i = lane; i < params.stride; i += REDUCE_LANES) {
    let values = vec4<u32>(i * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
    let distance = select(vec4<f32>(0.0), input[base + i] - mean, values < vec4<u32>(params.width));
    squares = fma(distance, distance, squares);
  }
  let variance = reduce_sum(lane, (squares.x + squares.y) + (squares.z + squares.w)) / f32(params.width);
  // 1 / sqrt, not inverseSqrt: drivers may answer the latter from a table.
  let factor = 1.0 / sqrt(variance + params.epsilon);
  for (var i = lane; i < params.stride; i += REDUCE_LANES) {
    // Weight and bias are zero in the padding, and so is the result.
    output[base + i] = fma((input[base + i] - mean) * factor, weight[i], bias[i]);
  }
}
