// Formula:   output[r, i] = silu(input[r, i]) * input[r, width + i], silu(x) = x / (1 + exp(-x))
// Shapes:    input [rows, 2 * width] f32 (gate, then up), rows input_stride values apart; output [rows, width], rows output_stride
//            values apart (its padding is never written)
// Dispatch:  (ceil(width / 64), rows, 1) workgroups of 64
// Reduction: none
// Source:    Shazeer 2020 (arXiv 2002.05202)

struct Params {
  width: u32, // values
  input_stride: u32, // values from row to row
  output_stride: u32, // values from row to row
  reserved: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> input: array<f32>;
@group(0) @binding(2) var<storage, read_write> output: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = group.x * 64u + lane;
  if (i >= params.width) {
    return;
  }
  let gate = input[group.y * params.input_stride + i];
  let up = input[group.y * params.input_stride + params.width + i];
  // exp(88) is the largest that stays finite; beyond it silu is below f32's smallest normal times x anyway.
  let activated = gate / (1.0 + exp(min(-gate, 88.0)));
  output[group.y * params.output_stride + i] = activated * up;
}
