/** An edge from boundary `start` to boundary `end` that carries `throughput`. */
export interface FlowEdge {
  readonly start: number
  readonly end: number
  readonly throughput: number
}

/** What rounding leaves of a full edge. */
const LEAST_ROOM = 1e-9

/**
 * What servers can carry when every token goes through spans that meet: the maximum flow through block boundaries, a
 * server being an edge from its start to its end (Dinitz). Links cost nothing.
 */
export function maxFlow(blockCount: number, edges: readonly FlowEdge[]): number {
  const nodes = blockCount + 1
  // Arc 2i goes along edge i, arc 2i + 1 back; those of one node are a list.
  const target = new Int32Array(2 * edges.length)
  const room = new Float64Array(2 * edges.length)
  const after = new Int32Array(2 * edges.length)
  const first = new Int32Array(nodes).fill(-1)
  for (const [i, { start, end, throughput }] of edges.entries()) {
    target[2 * i] = end
    target[2 * i + 1] = start
    room[2 * i] = throughput
    after[2 * i] = first[start]!
    first[start] = 2 * i
    after[2 * i + 1] = first[end]!
    first[end] = 2 * i + 1
  }
  const level = new Int32Array(nodes)
  const queue = new Int32Array(nodes)
  const next = new Int32Array(nodes)

  /** Arcs from boundary 0 to each boundary, with room left. @returns whether the last one can be reached. */
  const rank = (): boolean => {
    level.fill(-1)
    level[0] = 0
    let size = 1
    for (let head = 0; head < size; head++) {
      const at = queue[head]!
      for (let arc = first[at]!; arc !== -1; arc = after[arc]!) {
        const to = target[arc]!
        if (level[to] !== -1 || room[arc]! <= LEAST_ROOM) continue
        level[to] = level[at]! + 1
        queue[size++] = to
      }
    }
    return level[blockCount] !== -1
  }
  /** Sends up to `most` on from a boundary. */
  const push = (at: number, most: number): number => {
    if (at === blockCount) return most
    let sent = 0
    for (; next[at] !== -1; next[at] = after[next[at]!]!) {
      const arc = next[at]!
      const to = target[arc]!
      if (level[to] !== level[at]! + 1 || room[arc]! <= LEAST_ROOM) continue
      const part = push(to, Math.min(most - sent, room[arc]!))
      room[arc]! -= part
      room[arc ^ 1]! += part
      sent += part
      if (most - sent <= LEAST_ROOM) return sent
    }
    return sent
  }
  if (blockCount === 0) return 0
  let total = 0
  while (rank()) {
    next.set(first)
    const sent = push(0, Infinity)
    if (sent <= 0) break
    total += sent
  }
  return total
}
