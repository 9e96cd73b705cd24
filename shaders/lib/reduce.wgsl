// Sum and maximum over the 64 invocations of a workgroup.
//
// Reduction order: a fixed tree, strides 32, 16, 8, 4, 2, 1 (lane i takes lane i + stride). No subgroup operations:
// their size differs by vendor, and so would the order.
// Every invocation must call these together (they contain barriers); all get the result.

const REDUCE_LANES = 64u;

var<workgroup> reduce_scratch: array<f32, REDUCE_LANES>;

fn reduce_sum(lane: u32, value: f32) -> f32 {
  reduce_scratch[lane] = value;
  workgroupBarrier();
  for (var stride = REDUCE_LANES / 2u; stride > 0u; stride = stride / 2u) {
    if (lane < stride) {
      reduce_scratch[lane] = reduce_scratch[lane] + reduce_scratch[lane + stride];
    }
    workgroupBarrier();
  }
  let total = reduce_scratch[0];
  workgroupBarrier();
  return total;
}

fn reduce_max(lane: u32, value: f32) -> f32 {
  reduce_scratch[lane] = value;
  workgroupBarrier();
  for (var stride = REDUCE_LANES / 2u; stride > 0u; stride = stride / 2u) {
    if (lane < stride) {
      reduce_scratch[lane] = max(reduce_scratch[lane], reduce_scratch[lane + stride]);
    }
    workgroupBarrier();
  }
  let largest = reduce_scratch[0];
  workgroupBarrier();
  return largest;
}
