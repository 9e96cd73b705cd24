import {
  bestSpan,
  decideMove,
  JOIN_SPREAD,
  type MoveState,
  type PlacedServer,
  type PlacementSelf,
  type PlacementView,
  viewPlacement,
} from '../../../src/routing/placement.ts'
import { maxFlow } from '../../../src/routing/max-flow.ts'
import { seededRandom } from '../../seeded-random.ts'

export interface SimulationOptions {
  readonly peers: number
  readonly blockCount: number
  /** How old the records are that servers decide by, in seconds. */
  readonly staleSeconds: number
  /** Share of the peers that is replaced by new ones in an hour. */
  readonly churnPerHour: number
  /** Virtual time, in seconds; in the middle of it a share of the peers is lost at once. */
  readonly seconds: number
  readonly lossShare: number
  readonly seed: number
}

export interface SimulationResult {
  readonly movesPerMinuteMax: number
  readonly movesPerServerMax: number
  /** Until servers covered all blocks, as a chain, after the loss. 0: they never stopped. */
  readonly recoverySeconds: number
  /** Least and last throughput as a share of the bound: all servers' work spread evenly over all blocks. */
  readonly throughputShare: number
  readonly decisions: number
  readonly servers: readonly PlacedServer[]
}

/** How often a server looks whether it should move. */
const DECIDE_SECONDS = 120
const TICK_SECONDS = 5
const LOAD_SECONDS = 60
/** Servers come in over this time at first. */
const ARRIVAL_SECONDS = 600

interface SimulatedServer {
  readonly self: PlacementSelf
  readonly power: number
  /** Undefined until it chose, and while it is gone. */
  placed: PlacedServer | undefined
  state: MoveState
  /** When it decides next, and when a span that it loads is there. Seconds. */
  nextDecision: number
  loading: { readonly start: number; readonly end: number; readonly at: number } | undefined
  joinsAt: number
  moves: number
}

/**
 * Runs the placement rules with many servers in virtual time: each sees records `staleSeconds` old, decides at its own
 * moments, and loads a span while it goes on serving the old one. Deterministic for a seed.
 */
export function simulatePlacement(options: SimulationOptions): SimulationResult {
  const { peers, blockCount, staleSeconds, seconds, lossShare } = options
  const random = seededRandom(options.seed)
  let born = 0
  const spawn = (joinsAt: number): SimulatedServer =>
    createServer(`peer${born++}`, blockCount, random, joinsAt)
  const servers = Array.from({ length: peers }, () => spawn(random() * ARRIVAL_SECONDS))
  /** Records as they were, oldest first. */
  const past: { readonly at: number; readonly servers: PlacedServer[]; view?: PlacementView }[] = []
  const movesByMinute = new Map<number, number>()
  const lossAt = Math.floor(seconds / 2)
  let lostAt: number | undefined
  let recoveredAt: number | undefined
  let decisions = 0

  for (let now = 0; now <= seconds; now += TICK_SECONDS) {
    if (lostAt === undefined && now >= lossAt) {
      lostAt = now
      for (const server of servers) {
        if (server.placed && random() < lossShare) Object.assign(server, spawn(now + 60 + random() * 3_600))
      }
    }
    const leaveShare = (options.churnPerHour * TICK_SECONDS) / 3_600
    for (const [i, server] of servers.entries()) {
      if (server.placed && random() < leaveShare) servers[i] = spawn(now + random() * 60)
    }
    past.push({ at: now, servers: servers.flatMap(published) })
    while (past.length > 1 && past[1]!.at <= now - staleSeconds) past.shift()
    const seen = past[0]!
    for (const server of servers) {
      if (server.loading && server.loading.at <= now) arrive(server, now)
      if (now < Math.max(server.joinsAt, server.nextDecision) || server.loading) continue
      server.nextDecision = now + DECIDE_SECONDS * (0.75 + random() / 2)
      decisions++
      seen.view ??= viewPlacement(blockCount, seen.servers)
      if (decide(server, seen.view, now, staleSeconds)) {
        const minute = Math.floor(now / 60)
        movesByMinute.set(minute, (movesByMinute.get(minute) ?? 0) + 1)
      }
    }
    if (lostAt !== undefined && recoveredAt === undefined && now >= lostAt) {
      const after = servers.flatMap(({ placed }) => (placed ? [placed] : []))
      if (viewPlacement(blockCount, after).fromStart.has(blockCount)) recoveredAt = now
    }
  }
  const live = servers.flatMap(({ placed }) => (placed ? [placed] : []))
  const bound =
    live.reduce((sum, { start, end, throughput }) => sum + throughput * (end - start), 0) / blockCount
  return {
    movesPerMinuteMax: Math.max(0, ...movesByMinute.values()),
    movesPerServerMax: servers.reduce((most, { moves }) => Math.max(most, moves), 0),
    recoverySeconds: lostAt === undefined ? 0 : (recoveredAt ?? Infinity) - lostAt,
    throughputShare: bound > 0 ? maxFlow(blockCount, live) / bound : 0,
    decisions,
    servers: live,
  }
}

/** One decision of one server. @returns whether it starts to move. */
function decide(server: SimulatedServer, view: PlacementView, now: number, staleSeconds: number): boolean {
  const { self, placed } = server
  if (!placed) {
    const { start, end } = bestSpan(view, self, { spread: JOIN_SPREAD })
    server.loading = { start, end, at: now + LOAD_SECONDS }
    return false
  }
  const decision = decideMove(view, self, server.state, {
    now: now * 1_000,
    loadMs: LOAD_SECONDS * 1_000,
    publishMs: Math.max(staleSeconds, TICK_SECONDS) * 1_000,
  })
  if (decision.kind === 'stay') {
    const { intent: _, ...state } = server.state
    const { intent: __, ...rest } = placed
    server.state = state
    server.placed = rest
  } else if (decision.kind === 'intend') {
    const known = server.state.intent
    if (known?.span.start !== decision.span.start || known.span.end !== decision.span.end) {
      server.state = { ...server.state, intent: { span: decision.span, at: now * 1_000 } }
      server.placed = { ...placed, intent: decision.span }
    }
  } else {
    server.loading = { ...decision.span, at: now + LOAD_SECONDS }
    server.moves++
    return true
  }
  return false
}

/** What a server tells others: also where it is only about to be. */
function published({ placed, loading, self }: SimulatedServer): PlacedServer[] {
  if (placed) return [placed]
  if (!loading) return []
  const { start, end } = loading
  return [{ peerId: self.peerId, start, end, throughput: self.speed(end - start) }]
}

/** A span is loaded: from now on the server serves it. */
function arrive(server: SimulatedServer, now: number): void {
  const { start, end } = server.loading!
  const { peerId, speed } = server.self
  server.state = { since: now * 1_000, moves: server.placed ? server.state.moves + 1 : 0 }
  server.placed = { peerId, start, end, throughput: speed(end - start) }
  server.loading = undefined
}

/** Machines differ: memory for a few blocks or a quarter of the model, speeds over a range of eight. */
function createServer(
  peerId: string,
  blockCount: number,
  random: () => number,
  joinsAt: number,
): SimulatedServer {
  const power = 400 * 2 ** (3 * random())
  const maxBlocks = Math.max(1, Math.min(blockCount, Math.round((blockCount / 4) * (0.2 + 0.8 * random()))))
  return {
    self: { peerId, maxBlocks, speed: (blocks) => power / blocks },
    power,
    placed: undefined,
    state: { since: joinsAt * 1_000, moves: 0 },
    nextDecision: joinsAt,
    loading: undefined,
    joinsAt,
    moves: 0,
  }
}
