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
 * server being an edge from its start to its end (Edmonds and Karp). Links cost nothing.
 */
export function maxFlow(blockCount: number, edges: readonly FlowEdge[]): number {
  const nodes = blockCount + 1
  const room = new Float64Array(nodes * nodes)
  for (const { start, end, throughput } of edges) room[start * nodes + end]! += throughput
  let total = 0
  for (;;) {
    const before = search(room, nodes)
    if (before[blockCount] === -1) return total
    let least = Infinity
    for (let at = blockCount; at > 0; at = before[at]!) {
      least = Math.min(least, room[before[at]! * nodes + at]!)
    }
    for (let at = blockCount; at > 0; at = before[at]!) {
      room[before[at]! * nodes + at]! -= least
      room[at * nodes + before[at]!]! += least
    }
    total += least
  }
}

/** Breadth first from boundary 0: for each boundary, which one it was reached from; -1: it was not. */
function search(room: Float64Array, nodes: number): Int32Array {
  const before = new Int32Array(nodes).fill(-1)
  before[0] = 0
  const queue = [0]
  for (let head = 0; head < queue.length; head++) {
    const at = queue[head]!
    for (let to = 0; to < nodes; to++) {
      if (before[to] !== -1 || room[at * nodes + to]! <= LEAST_ROOM) continue
      before[to] = at
      queue.push(to)
    }
  }
  return before
}
