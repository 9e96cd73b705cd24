// Formula:   p = softmax(logits[r]); the `slots` experts with the largest logits (of equal ones the lower number), in the order
//            of their numbers, with factor p[e], or p[e] / sum of the chosen p when `normalize`
// Shapes:    logits [rows, experts] f32, rows logits_stride values apart; choices [rows, slots] of (expert, factor).
//            experts at most 256
// Dispatch:  (rows, 1, 1) workgroups of 64
// Reduction: the sum of e^(logit - largest) in the order of the experts' numbers
// Source:    Jiang et al. 2024 (arXiv 2401.04088), as Hugging Face's MixtralTopKRouter

const LANES = 64u;
const MAX_EXPERTS = 256u;
const LOWEST = -3.0e38;

struct Params {
  experts: u32,
  slots: u32, // experts of a token
  normalize: u32, // 1 or 0
  logits_stride: u32, // values from row to row
}

struct Choice {
  expert: u32,
  factor: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read_write> choices: array<Choice>;

var<workgroup> scores: array<f32, MAX_EXPERTS>;
var<workgroup> chosen: array<u32, MAX_EXPERTS>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  for (var e = lane; e < params.experts; e += LANES) {
    scores[e] = logits[group.x * params.logits_stride + e];
  }
  workgroupBarrier();
  for (var e = lane; e < params.experts; e += LANES) {
    let score = scores[e];
    var better = 0u;
    for (var other = 0u; other < params.experts; other++) {
      let rival = scores[other];
      better += select(0u, 1u, rival > score || (rival == score && other < e));
    }
    chosen[e] = select(0u, 1u, better < params.slots);
  }
  workgroupBarrier();
  for (var e = lane; e < params.experts; e += LANES) {
    var slot = 0u;
    var largest = LOWEST;
    for (var other = 0u; other < params.experts; other++) {
      largest = max(largest, scores[other]);
      slot += select(0u, chosen[other], other < e);
    }
    var sum = 0.0;
    for (var other = 0u; other < params.experts; other++) {
      if (params.normalize == 0u || chosen[other] != 0u) {
        sum = sum + exp(scores[other] - largest);
      }
    }
    // More than `slots` are chosen only among numbers that are none; nothing is written past the row then.
    if (chosen[e] != 0u && slot < params.slots) {
      choices[group.x * params.slots + slot] = Choice(e, exp(scores[e] - largest) / sum);
    }
  }
}
