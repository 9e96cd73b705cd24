import { describe, expect, it } from 'vitest'
import { seededRandom } from '../../node/seeded-random.ts'
import { maxFlow } from '../../src/routing/max-flow.ts'
import { flowBound, type Machine, planSpans } from '../../src/routing/plan.ts'
import {
  bestSpan,
  decideMove,
  type MoveState,
  type PlacedServer,
  type PlacementSelf,
  viewPlacement,
} from '../../src/routing/placement.ts'

/** Machines as volunteers have them: memory for a quarter of the model to all of it, speeds over a range of eight. */
function drawMachines(seed: number, mostServers: number, mostBlocks: number) {
  const random = seededRandom(seed)
  const blockCount = 2 + Math.floor(random() * (mostBlocks - 1))
  const machines: Machine[] = Array.from(
    { length: 2 + Math.floor(random() * (mostServers - 1)) },
    (_, i) => ({
      peerId: `p${seed}-${i}`,
      power: 400 * 2 ** (3 * random()),
      maxBlocks: Math.max(1, Math.round(blockCount * (0.25 + 0.75 * random()))),
    }),
  )
  return { blockCount, machines }
}

/** The smallest cut over every set of boundaries: what no flow exceeds and the largest one reaches. */
function leastCut(blockCount: number, edges: readonly { start: number; end: number; throughput: number }[]) {
  let least = Infinity
  for (let set = 0; set < 2 ** (blockCount - 1); set++) {
    // Boundary 0 is inside, the last one outside, bit b - 1 says where boundary b is.
    const inside = (b: number) => b === 0 || (b < blockCount && (set & (1 << (b - 1))) !== 0)
    const cut = edges.reduce(
      (sum, { start, end, throughput }) => sum + (inside(start) && !inside(end) ? throughput : 0),
      0,
    )
    least = Math.min(least, cut)
  }
  return least
}

/** The best flow over every choice of spans. */
function bestFlow(blockCount: number, machines: readonly Machine[], edges: PlacedServer[] = []): number {
  const machine = machines[edges.length]
  if (!machine) return maxFlow(blockCount, edges)
  let best = 0
  for (let start = 0; start < blockCount; start++) {
    for (let end = start + 1; end <= Math.min(start + machine.maxBlocks, blockCount); end++) {
      const edge = { peerId: machine.peerId, start, end, throughput: machine.power / (end - start) }
      best = Math.max(best, bestFlow(blockCount, machines, [...edges, edge]))
    }
  }
  return best
}

/** Servers join one after the other and then follow `decideMove` until none of them moves any more. */
function settle(blockCount: number, machines: readonly Machine[]): number {
  const selves = machines.map(({ peerId, maxBlocks, power }): PlacementSelf => ({
    peerId,
    maxBlocks,
    speed: (blocks) => power / blocks,
  }))
  const placed: PlacedServer[] = []
  const states: MoveState[] = selves.map(() => ({ since: 0, moves: 0 }))
  const at = (self: PlacementSelf, start: number, end: number): PlacedServer => ({
    peerId: self.peerId,
    start,
    end,
    throughput: self.speed(end - start),
    maxBlocks: self.maxBlocks,
  })
  for (const self of selves) {
    const { start, end } = bestSpan(viewPlacement(blockCount, placed), self)
    placed.push(at(self, start, end))
  }
  const view = viewPlacement(blockCount, placed)
  const put = (i: number, next: PlacedServer): void => {
    if (JSON.stringify(next) === JSON.stringify(placed[i])) return
    view.replace(placed[i], next)
    placed[i] = next
  }
  let quiet = 0
  for (let now = 1e9; quiet < 4; now += 120_000) {
    quiet++
    for (const [i, self] of selves.entries()) {
      const decision = decideMove(view, self, states[i]!, {
        now,
        loadMs: 1_000,
        publishMs: 45_000,
        dwellMs: 1,
      })
      const { start, end } = placed[i]!
      if (decision.kind === 'stay') {
        put(i, at(self, start, end))
        states[i] = { since: 0, moves: 0 }
      } else if (decision.kind === 'intend') {
        if (states[i]!.intent === undefined || placed[i]!.intent === undefined) quiet = 0
        const known = states[i]!.intent
        const same = known?.span.start === decision.span.start && known.span.end === decision.span.end
        states[i] = { since: 0, moves: 0, intent: same ? known : { span: decision.span, at: now } }
        put(i, { ...placed[i]!, intent: decision.span })
      } else {
        quiet = 0
        put(i, at(self, decision.span.start, decision.span.end))
        states[i] = { since: 0, moves: 0 }
      }
    }
    expect(now, 'settles').toBeLessThan(2e9)
  }
  return maxFlow(blockCount, placed)
}

describe('maxFlow', () => {
  it('equals the smallest of all cuts', () => {
    for (let seed = 1; seed <= 500; seed++) {
      const random = seededRandom(seed)
      const blockCount = 1 + Math.floor(random() * 9)
      const edges = Array.from({ length: Math.floor(random() * 14) }, () => {
        const start = Math.floor(random() * blockCount)
        const end = start + 1 + Math.floor(random() * (blockCount - start))
        return { start, end, throughput: 1 + Math.floor(random() * 100) }
      })
      expect(maxFlow(blockCount, edges)).toBe(leastCut(blockCount, edges))
    }
  })
})

describe('planSpans', () => {
  it('finds the best of all placements to 2 %, and its bound holds', () => {
    for (let seed = 1; seed <= 150; seed++) {
      const { blockCount, machines } = drawMachines(seed, 4, 5)
      const best = bestFlow(blockCount, machines)
      const plan = planSpans(blockCount, machines)
      expect(plan.flow).toBeLessThanOrEqual(best * (1 + 1e-9))
      expect(plan.flow * 1.021).toBeGreaterThanOrEqual(best)
      expect(plan.bound * (1 + 1e-9)).toBeGreaterThanOrEqual(best)
      expect(flowBound(blockCount, machines) * (1 + 1e-9)).toBeGreaterThanOrEqual(best)
    }
  })
})

describe('decideMove', () => {
  it('of up to 8 servers and 24 blocks settles within 10 % of the best placement', () => {
    let most = 0
    for (let seed = 1; seed <= 120; seed++) {
      const { blockCount, machines } = drawMachines(seed, 8, 24)
      const { bound } = planSpans(blockCount, machines)
      const flow = settle(blockCount, machines)
      expect(flow, `seed ${seed}: ${flow} of ${bound}`).toBeGreaterThanOrEqual(0.9 * bound)
      most = Math.max(most, machines.length)
    }
    expect(most).toBe(8)
  })
})
