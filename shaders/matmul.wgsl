// Formula:   output[r, n] = (accumulate ? output[r, n] : 0) + (sum over k of weight[n, k] * input[r, k] + bias[n])
// Shapes:    input [rows, K] f32, rows input_stride vec4s apart; weight [columns, K] row-major, rows quads * 4 values (zero
//            padded) in the format of the prelude; bias [columns] f32; output rows output_stride values apart, this part's
//            columns starting at output_offset
// Dispatch:  (ceil(columns / (4 * COLUMNS)), ceil(rows / ROWS), 1) workgroups of 64 = 4 column groups x 16 lanes
// Reduction: of one output, whatever ROWS and COLUMNS are: lane l (of 16) sums the quads l, l + 16, ... in order with fma (four
//            partial sums, then (x + y) + (z + w)); then lanes 0, 1, ... 15 in order; then the bias; then the old output
// Source:    own
// Prelude:   lib/weight_f32.wgsl, lib/weight_f16.wgsl or lib/weight_bf16.wgsl (WeightWord, unpack_weight), and
//            const ROWS (tokens a workgroup), const COLUMNS (outputs an invocation and token)

const LANES = 16u;
const GROUPS = 4u;
const OUTPUTS = GROUPS * COLUMNS * ROWS;

struct Params {
  columns: u32, // outputs of this part of the matrix
  quads: u32, // vec4s in a weight row
  input_stride: u32, // vec4s from input row to input row
  output_stride: u32, // values from output row to output row
  output_offset: u32, // values before this part's first column
  has_bias: u32, // 1 or 0
  accumulate: u32, // 1 or 0
  reserved: u32,
}

struct Step {
  rows: u32, // tokens in this step
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> input: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> weight: array<WeightWord>;
@group(0) @binding(4) var<storage, read> bias: array<f32>;
@group(0) @binding(5) var<storage, read_write> output: array<f32>;

var<workgroup> partial: array<f32, OUTPUTS * LANES>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
  let lane = index % LANES;
  let column_group = index / LANES;
  let first_row = group.y * ROWS;
  let first_column = group.x * (GROUPS * COLUMNS);

  // Rows and columns past the end are computed from the last one and not stored: no branch in the loop.
  var input_base: array<u32, ROWS>;
  for (var r = 0u; r < ROWS; r++) {
    input_base[r] = min(first_row + r, step.rows - 1u) * params.input_stride;
  }
  var weight_base: array<u32, COLUMNS>;
  for (var c = 0u; c < COLUMNS; c++) {
    weight_base[c] = min(first_column + column_group * COLUMNS + c, params.columns - 1u) * params.quads;
  }

  var sums: array<vec4<f32>, ROWS * COLUMNS>;
  for (var k = lane; k < params.quads; k += LANES) {
    var x: array<vec4<f32>, ROWS>;
    for (var r = 0u; r < ROWS; r++) {
      x[r] = input[input_base[r] + k];
    }
    for (var c = 0u; c < COLUMNS; c++) {
      let w = unpack_weight(weight[weight_base[c] + k]);
      for (var r = 0u; r < ROWS; r++) {
        sums[c * ROWS + r] = fma(w, x[r], sums[c * ROWS + r]);
      }
    }
  }

  for (var c = 0u; c < COLUMNS; c++) {
    for (var r = 0u; r < ROWS; r++) {
      let sum = sums[c * ROWS + r];
      let local_output = (column_group * COLUMNS + c) * ROWS + r;
      partial[local_output * LANES + lane] = (sum.x + sum.y) + (sum.z + sum.w);
    }
  }
  workgroupBarrier();

  for (var local_output = index; local_output < OUTPUTS; local_output += GROUPS * LANES) {
    let row = first_row + local_output % ROWS;
    let column = first_column + local_output / ROWS;
    if (row < step.rows && column < params.columns) {
      var total = 0.0;
      for (var l = 0u; l < LANES; l++) {
        total = total + partial[local_output * LANES + l];
      }
      if (params.has_bias != 0u) {
        total = total + bias[params.output_offset + column];
      }
      let at = row * params.output_stride + params.output_offset + column;
      if (params.accumulate != 0u) {
        total = output[at] + total;
      }
      output[at] = total;
    }
  }
}
