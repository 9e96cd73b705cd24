// Formula:   y[r, n] = sum over k of weight[n, k] * input[r, k] + bias[n]
//            GATED = 0: output[r, n] = (accumulate ? output[r, n] : 0) + activate(y[r, n])
//            GATED = 1: output[r, n] = (accumulate ? output[r, n] : 0) + activate(y[r, 2n]) * y[r, 2n + 1]
// Shapes:    input [rows, K] f32, rows input_stride vec4s apart; weight [columns, K] row-major, rows of `words` words (padded with
//            zeros) in the prelude's format; bias f32; output rows output_stride values apart, this part's first output at
//            output_offset. With GATED the rows of gate and up alternate, and so do their biases
// Dispatch:  (ceil(columns / (4 * COLUMNS)), ceil(rows / ROWS), 1) workgroups of 64 = 4 column groups x 16 lanes
// Reduction: of one output, whatever ROWS and COLUMNS are: lane l (of 16) takes the words l, l + 16, ... and in them value after
//            value, one sum with fma; then lanes 0, 1, ... 15 in order; then the bias. matmul_tiled.wgsl adds in the same order
// Source:    own
// Prelude:   lib/weight_*.wgsl (WeightWord, WORD_QUADS, scale_of, unpack_quad), const ROWS (tokens a workgroup), COLUMNS (weight
//            rows an invocation, even with GATED), GATED, ACTIVATION
// include: lib/bytes.wgsl
// include: lib/activation.wgsl

const LANES = 16u;
const GROUPS = 4u;
const OUTPUTS = GROUPS * COLUMNS * ROWS;
const STRIDE = LANES + 1u; // keeps lanes out of each other's memory bank

struct Params {
  columns: u32, // weight rows of this part of the matrix
  words: u32, // in a weight row
  input_stride: u32, // vec4s from input row to input row
  output_stride: u32, // values from output row to output row
  output_offset: u32, // outputs before this part's first
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
@group(0) @binding(4) var<storage, read> scales: array<u32>;
@group(0) @binding(5) var<storage, read> bias: array<f32>;
@group(0) @binding(6) var<storage, read_write> output: array<f32>;

var<workgroup> partial: array<f32, OUTPUTS * STRIDE>;

/// One result of the linear layer: its lanes' sums, then its bias.
fn linear_result(local_column: u32, local_row: u32, weight_row: u32) -> f32 {
  var total = 0.0;
  for (var l = 0u; l < LANES; l++) {
    total = total + partial[(local_column * ROWS + local_row) * STRIDE + l];
  }
  if (params.has_bias != 0u) {
    total = total + bias[params.output_offset * (1u + GATED) + weight_row];
  }
  return total;
}

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
  var weight_row: array<u32, COLUMNS>;
  for (var c = 0u; c < COLUMNS; c++) {
    weight_row[c] = min(first_column + column_group * COLUMNS + c, params.columns - 1u);
  }

  var sums: array<f32, ROWS * COLUMNS>;
  for (var k = lane; k < params.words; k += LANES) {
    var words: array<WeightWord, COLUMNS>;
    var word_scales: array<vec2<f32>, COLUMNS>;
    for (var c = 0u; c < COLUMNS; c++) {
      words[c] = weight[weight_row[c] * params.words + k];
      word_scales[c] = scale_of(weight_row[c], k, params.words);
    }
    for (var quad = 0u; quad < WORD_QUADS; quad++) {
      var x: array<vec4<f32>, ROWS>;
      for (var r = 0u; r < ROWS; r++) {
        x[r] = input[input_base[r] + k * WORD_QUADS + quad];
      }
      for (var c = 0u; c < COLUMNS; c++) {
        let w = unpack_quad(words[c], quad, word_scales[c]);
        for (var r = 0u; r < ROWS; r++) {
          var sum = sums[c * ROWS + r];
          sum = fma(w.x, x[r].x, sum);
          sum = fma(w.y, x[r].y, sum);
          sum = fma(w.z, x[r].z, sum);
          sum = fma(w.w, x[r].w, sum);
          sums[c * ROWS + r] = sum;
        }
      }
    }
  }

  for (var c = 0u; c < COLUMNS; c++) {
    for (var r = 0u; r < ROWS; r++) {
      partial[((column_group * COLUMNS + c) * ROWS + r) * STRIDE + lane] = sums[c * ROWS + r];
    }
  }
  workgroupBarrier();

  for (var i = index; i < OUTPUTS / (1u + GATED); i += GROUPS * LANES) {
    let local_row = i % ROWS;
    let local_column = (i / ROWS) * (1u + GATED);
    let row = first_row + local_row;
    let column = first_column + local_column;
    if (row < step.rows && column < params.columns) {
      var result = activate(linear_result(local_column, local_row, column));
      if (GATED == 1u) {
        result = result * linear_result(local_column + 1u, local_row, column + 1u);
      }
      let at = row * params.output_stride + params.output_offset + column / (1u + GATED);
      if (params.accumulate != 0u) {
        result = output[at] + result;
      }
      output[at] = result;
    }
  }
}
