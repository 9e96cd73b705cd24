// Where a session's keys and values lie: pages of 16 tokens, found through the step's page table.
// A page holds keys as [kv head][dim / 4][token] vec4 (neighbouring lanes read neighbouring tokens) and values as
// [kv head][token][dim] (neighbouring lanes read neighbouring dims). `dims` is headDim rounded up to a multiple of 4.
// The host's twin of PAGE_TOKENS is KV_PAGE_TOKENS in src/gpu/ops/attention.ts.

const PAGE_TOKENS = 16u;

struct Row {
  position: u32, // of this token in its session
  table: u32, // index of the session's first page in the step's page table
}

/// Index of the vec4 that holds dims [4 * quad, 4 * quad + 4) of a key.
fn key_index(page: u32, slot: u32, kv_head: u32, kv_heads: u32, quads: u32, quad: u32) -> u32 {
  return ((page * kv_heads + kv_head) * quads + quad) * PAGE_TOKENS + slot;
}

/// Index of dim 0 of a value.
fn value_index(page: u32, slot: u32, kv_head: u32, kv_heads: u32, dims: u32) -> u32 {
  return ((page * kv_heads + kv_head) * PAGE_TOKENS + slot) * dims;
}
