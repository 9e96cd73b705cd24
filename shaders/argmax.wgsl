// Formula:   output[r, p] = (bits of max input[r, i], its i) over part p of row r, lowest i on ties; i = 2^32 - 1 where a value is not finite
// Shapes:    input [rows, width] f32, rows `stride` apart; output [rows, parts] pairs of words, rows `out_stride` apart
// Dispatch:  (parts, rows, 1) workgroups of 64
// Reduction: lane l takes i = l, l + 64, ... of its part in order, then a tree; comparisons only, so nothing is rounded
// Source:    greedy decoding; the host compares the parts

struct Params {
  width: u32, // values in a row
  stride: u32, // values from row to row
  span: u32, // values in a part
  out_stride: u32, // pairs from row to row
}

@group(0) @binding(0) var<uniform> params: Params;
// As words: what is not finite is told by its bits, since WGSL lets compilers assume that there is none.
@group(0) @binding(1) var<storage, read> input: array<u32>;
@group(0) @binding(2) var<storage, read_write> output: array<vec2<u32>>;

const LANES = 64u;
const EXPONENT = 0x7f800000u;
const NONE = 0xfffffffeu;
const SPOILED = 0xffffffffu;

var<workgroup> best: array<vec2<u32>, LANES>;

// The better of two (bits, i); an i of NONE loses, one of SPOILED wins.
fn better(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  if (a.y == SPOILED || b.y == NONE) {
    return a;
  }
  if (b.y == SPOILED || a.y == NONE) {
    return b;
  }
  let x = bitcast<f32>(a.x);
  let y = bitcast<f32>(b.x);
  if (y > x || (y == x && b.y < a.y)) {
    return b;
  }
  return a;
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let first = group.x * params.span;
  let end = min(first + params.span, params.width);
  let row = group.y * params.stride;
  var mine = vec2<u32>(0u, NONE);
  for (var i = first + lane; i < end; i += LANES) {
    let word = input[row + i];
    if ((word & EXPONENT) == EXPONENT) {
      mine = vec2<u32>(word, SPOILED);
    } else {
      mine = better(mine, vec2<u32>(word, i));
    }
  }
  best[lane] = mine;
  workgroupBarrier();
  for (var stride = LANES / 2u; stride > 0u; stride = stride / 2u) {
    if (lane < stride) {
      best[lane] = better(best[lane], best[lane + stride]);
    }
    workgroupBarrier();
  }
  if (lane == 0u) {
    output[group.y * params.out_stride + group.x] = best[0];
  }
}
