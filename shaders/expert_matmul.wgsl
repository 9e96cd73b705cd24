// Formula:   y[n, x] = sum over k of weight[e, n, k] * x[k]; token r has chosen `slots` experts e with factors f
//            MIX = 0: output[r * slots + s, n] = activate(y[2n]) * y[2n + 1] of x = input[r], s-th expert (gate and up alternate)
//            MIX = 1: output[r, n] = output[r, n] + f * y[n] of x = input[r * slots + s], for s = 0, 1, ... in order
// Shapes:    choices [rows, slots] of (expert, factor), as route.wgsl wrote them; weight: experts first_expert .. first_expert +
//            expert_count - 1, `columns` rows each, rows of `words` words in the prelude's format
// Dispatch:  (ceil(columns / (4 * COLUMNS)), MIX = 0 ? rows * slots : rows, 1) workgroups of 64 = 4 column groups x 16 lanes;
//            one dispatch a part of the experts, in order. Tokens of experts that are not in the part are passed over
// Reduction: of one y as in matmul.wgsl; experts in the order of their numbers, so parts don't show in the sum
// Source:    Jiang et al. 2024 (arXiv 2401.04088)
// Prelude:   lib/weight_*.wgsl, const MIX, COLUMNS (weight rows an invocation, even), ACTIVATION
// include: lib/bytes.wgsl
// include: lib/activation.wgsl

const LANES = 16u;
const GROUPS = 4u;
const OUTPUTS = GROUPS * COLUMNS;
const STRIDE = LANES + 1u;

struct Params {
  columns: u32, // weight rows of an expert in this part
  words: u32, // in a weight row
  input_stride: u32, // vec4s from input row to input row
  output_stride: u32, // values from output row to output row
  output_offset: u32, // outputs before this part's first
  first_expert: u32,
  expert_count: u32,
  slots: u32, // experts of a token
}

struct Choice {
  expert: u32,
  factor: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> choices: array<Choice>;
@group(0) @binding(2) var<storage, read> input: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> weight: array<WeightWord>;
@group(0) @binding(4) var<storage, read> scales: array<u32>;
@group(0) @binding(5) var<storage, read_write> output: array<f32>;

var<workgroup> partial: array<f32, OUTPUTS * STRIDE>;

fn linear_result(local_column: u32) -> f32 {
  var total = 0.0;
  for (var l = 0u; l < LANES; l++) {
    total = total + partial[local_column * STRIDE + l];
  }
  return total;
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
  let lane = index % LANES;
  let column_group = index / LANES;
  let first_column = group.x * OUTPUTS;
  let pairs = select(1u, params.slots, MIX == 1u);

  var sums: array<f32, COLUMNS>;
  for (var s = 0u; s < pairs; s++) {
    let pair = group.y * pairs + s;
    let choice = choices[pair];
    let expert = choice.expert - params.first_expert; // wraps round below first_expert
    if (expert >= params.expert_count) {
      continue;
    }
    let input_base = select(pair / params.slots, pair, MIX == 1u) * params.input_stride;
    var weight_row: array<u32, COLUMNS>;
    for (var c = 0u; c < COLUMNS; c++) {
      let column = min(first_column + column_group * COLUMNS + c, params.columns - 1u);
      weight_row[c] = expert * params.columns + column;
    }
    for (var c = 0u; c < COLUMNS; c++) {
      sums[c] = 0.0; // not declared here: llvmpipe was seen not to clear an array that a loop declares
    }
    for (var k = lane; k < params.words; k += LANES) {
      var words: array<WeightWord, COLUMNS>;
      var word_scales: array<vec2<f32>, COLUMNS>;
      for (var c = 0u; c < COLUMNS; c++) {
        words[c] = weight[weight_row[c] * params.words + k];
        word_scales[c] = scale_of(weight_row[c], k, params.words);
      }
      for (var quad = 0u; quad < WORD_QUADS; quad++) {
        let x = input[input_base + k * WORD_QUADS + quad];
        for (var c = 0u; c < COLUMNS; c++) {
          let w = unpack_quad(words[c], quad, word_scales[c]);
          sums[c] = fma(w.x, x.x, sums[c]);
          sums[c] = fma(w.y, x.y, sums[c]);
          sums[c] = fma(w.z, x.z, sums[c]);
          sums[c] = fma(w.w, x.w, sums[c]);
        }
      }
    }
    workgroupBarrier();
    for (var c = 0u; c < COLUMNS; c++) {
      partial[(column_group * COLUMNS + c) * STRIDE + lane] = sums[c];
    }
    workgroupBarrier();

    if (MIX == 1u) {
      if (index < OUTPUTS && first_column + index < params.columns) {
        let at = group.y * params.output_stride + params.output_offset + first_column + index;
        output[at] = fma(choice.factor, linear_result(index), output[at]);
      }
    } else if (index < OUTPUTS / 2u && first_column + index * 2u < params.columns) {
      let at = pair * params.output_stride + params.output_offset + first_column / 2u + index;
      output[at] = activate(linear_result(index * 2u)) * linear_result(index * 2u + 1u);
    }
  }
}
