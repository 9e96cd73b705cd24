// How attention's keys are split among workgroups: runs of 256 positions from 0 on, whatever the batch or the length. A query's
// partial results lie in [row, head, split] order, head_dim sums, then the maximum, then the total.
// The host's twin of SPLIT_KEYS is KV_SPLIT_KEYS in src/gpu/ops/attention.ts.

const SPLIT_KEYS = 256u;

struct Step {
  rows: u32, // tokens in this step
  splits: u32, // of the longest of them
}

struct Seen {
  begin: u32,
  end: u32,
}

/// The keys a query at `position` sees: the last `window` up to itself.
fn seen_keys(position: u32, window: u32) -> Seen {
  let end = position + 1u;
  return Seen(end - min(end, window), end);
}

fn partial_index(row: u32, head: u32, split: u32, heads: u32, splits: u32, head_dim: u32) -> u32 {
  return ((row * heads + head) * splits + split) * (head_dim + 2u);
}
