// Formula:   as matmul.wgsl, for many rows: every weight is unpacked once for 32 tokens
// Shapes:    as matmul.wgsl
// Dispatch:  (ceil(columns / 32), ceil(rows / 32), 1) workgroups of 64 = 8 x 8 invocations of 4 tokens x 4 weight rows each
// Reduction: of one output the order of matmul.wgsl, of whose 16 lanes each invocation plays one after another: the words l,
//            l + 16, ... value after value into one sum with fma, the sum added to the total; then the bias
// Source:    own; tile sizes after llama.cpp's WebGPU backend
// Prelude:   lib/weight_*.wgsl, const GATED, ACTIVATION
// include: lib/bytes.wgsl
// include: lib/activation.wgsl

const LANES = 16u;
const TILE = 32u; // tokens, weight rows, and values of k staged at a time
const QUADS = TILE / 4u;
const STRIDE = QUADS + 1u; // keeps invocations out of each other's memory bank
const STAGED_WORDS = QUADS / WORD_QUADS;

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

// For each staged k, a vec4 of four tokens' inputs (or four rows' weights).
var<workgroup> staged_input: array<vec4<f32>, TILE * STRIDE>;
var<workgroup> staged_weight: array<vec4<f32>, TILE * STRIDE>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
  let first_row = group.y * TILE;
  let first_column = group.x * TILE;
  let column_quad = index % QUADS;
  let row_quad = index / QUADS;

  // Past the last token there is nothing to sum, only to stage.
  let is_idle = first_row + row_quad * 4u >= step.rows;

  // What this invocation stages: the same four k of four tokens and of four weight rows.
  let staged_quad = index % QUADS;
  let staged_word = staged_quad / WORD_QUADS;
  var input_base: array<u32, 4>;
  var weight_row: array<u32, 4>;
  for (var i = 0u; i < 4u; i++) {
    input_base[i] = min(first_row + row_quad * 4u + i, step.rows - 1u) * params.input_stride;
    weight_row[i] = min(first_column + row_quad * 4u + i, params.columns - 1u);
  }

  var totals: array<vec4<f32>, 4>; // one token each, four columns
  var sums: array<vec4<f32>, 4>;
  for (var lane = 0u; lane < LANES; lane++) {
    for (var i = 0u; i < 4u; i++) {
      sums[i] = vec4<f32>(0.0);
    }
    for (var first = lane; first < params.words; first += LANES * STAGED_WORDS) {
      let word = first + staged_word * LANES;
      var x = mat4x4<f32>();
      var w = mat4x4<f32>();
      if (word < params.words) {
        let quad = staged_quad % WORD_QUADS;
        for (var i = 0u; i < 4u; i++) {
          x[i] = input[input_base[i] + word * WORD_QUADS + quad];
          let scale = scale_of(weight_row[i], word, params.words);
          w[i] = unpack_quad(weight[weight_row[i] * params.words + word], quad, scale);
        }
      }
      x = transpose(x);
      w = transpose(w);
      workgroupBarrier();
      for (var i = 0u; i < 4u; i++) {
        staged_input[(staged_quad * 4u + i) * STRIDE + row_quad] = x[i];
        staged_weight[(staged_quad * 4u + i) * STRIDE + row_quad] = w[i];
      }
      workgroupBarrier();
      if (!is_idle) {
        for (var k = 0u; k < TILE; k++) {
          let columns = staged_weight[k * STRIDE + column_quad];
          let tokens = staged_input[k * STRIDE + row_quad];
          sums[0] = fma(columns, vec4<f32>(tokens.x), sums[0]);
          sums[1] = fma(columns, vec4<f32>(tokens.y), sums[1]);
          sums[2] = fma(columns, vec4<f32>(tokens.z), sums[2]);
          sums[3] = fma(columns, vec4<f32>(tokens.w), sums[3]);
        }
      }
    }
    for (var i = 0u; i < 4u; i++) {
      totals[i] = totals[i] + sums[i];
    }
  }

  for (var i = 0u; i < 4u; i++) {
    let row = first_row + row_quad * 4u + i;
    var total = totals[i];
    for (var c = 0u; c < 4u; c++) {
      let column = first_column + column_quad * 4u + c;
      if (params.has_bias != 0u && column < params.columns) {
        total[c] = total[c] + bias[params.output_offset * (1u + GATED) + column];
      }
    }
    for (var c = 0u; c < 4u; c += 1u + GATED) {
      let column = first_column + column_quad * 4u + c;
      if (row < step.rows && column < params.columns) {
        var result = activate(total[c]);
        if (GATED == 1u) {
          result = result * total[(c + 1u) % 4u];
        }
        let at = row * params.output_stride + params.output_offset + column / (1u + GATED);
        if (params.accumulate != 0u) {
          result = output[at] + result;
        }
        output[at] = result;
      }
    }
  }
}
