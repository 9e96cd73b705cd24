import {
  bestSpan,
  decideMove,
  JOIN_SPREAD,
  type MoveState,
  type PlacedServer,
  type PlacementSelf,
  type PlacementView,
  staysUntil,
  viewPlacement,
} from '../../../src/routing/placement.ts'
import { maxFlow } from '../../../src/routing/max-flow.ts'
import { flowBound } from '../../../src/routing/plan.ts'
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
  /** Moves of all servers. */
  readonly moves: number
  /** Until servers covered all blocks, as a chain, after the loss. 0: they never stopped. */
  readonly recoverySeconds: number
  /** Throughput at the end (maximum flow through spans that meet) as a share of `throughputBound`. */
  readonly throughputShare: number
  /** The same, averaged over every sample after the warm-up, the loss and its repair included. */
  readonly throughputShareMean: number
  readonly throughputShareMin: number
  /** From the loss until the throughput was 0.9 of the bound again (of the servers that were left); Infinity: never. */
  readonly balancedSeconds: number
  /** Samples over time. */
  readonly curve: readonly { readonly seconds: number; readonly share: number; readonly servers: number }[]
  readonly decisions: number
  /** Records that said something new. */
  readonly news: number
  readonly servers: readonly PlacedServer[]
}

/** How often a server looks whether it should move. */
const DECIDE_SECONDS = 120
const TICK_SECONDS = 5
const LOAD_SECONDS = 60
/** Servers come in over this time at first. */
const ARRIVAL_SECONDS = 600
/** Throughput counts from here on: until then servers arrive, dwell ten minutes where they came to, and spread out. */
const WARM_UP_SECONDS = 3_600
const SAMPLE_SECONDS = 60

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
  /** What it told others last, and what counts as serving. */
  told: PlacedServer | undefined
  counted: PlacedServer | undefined
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
  const seen = viewPlacement(blockCount, [])
  const serving = viewPlacement(blockCount, [])
  /** Changes of records that nobody sees yet, oldest first. */
  const unseen: { readonly at: number; readonly before?: PlacedServer; readonly after?: PlacedServer }[] = []
  let nextUnseen = 0
  /** What changed about a server: at once in truth, later in what others see. */
  const publish = (server: SimulatedServer, now: number): void => {
    const after = publishedRecord(server)
    const before = server.told
    if (after !== before) {
      unseen.push({ at: now + staleSeconds, ...(before && { before }), ...(after && { after }) })
      server.told = after
    }
    if (server.placed === server.counted) return
    serving.replace(server.counted, server.placed)
    server.counted = server.placed
  }
  const leave = (server: SimulatedServer, now: number): void => {
    server.placed = undefined
    server.loading = undefined
    publish(server, now)
  }
  let mostMoves = 0
  const movesByMinute = new Map<number, number>()
  const lossAt = Math.floor(seconds / 2)
  const leaveShare = (options.churnPerHour * TICK_SECONDS) / 3_600
  const curve: { seconds: number; share: number; servers: number }[] = []
  let lostAt: number | undefined
  let recoveredAt: number | undefined
  let balancedAt: number | undefined
  let decisions = 0

  for (let now = 0; now <= seconds; now += TICK_SECONDS) {
    const loses = lostAt === undefined && lossShare > 0 && now >= lossAt
    if (loses) lostAt = now
    for (const [i, server] of servers.entries()) {
      if (!server.placed) continue
      const lost = loses && random() < lossShare
      if (!lost && random() >= leaveShare) continue
      leave(server, now)
      servers[i] = lost ? spawn(now + 60 + random() * 3_600) : spawn(now + random() * 60)
    }
    for (; nextUnseen < unseen.length && unseen[nextUnseen]!.at <= now; nextUnseen++) {
      seen.replace(unseen[nextUnseen]!.before, unseen[nextUnseen]!.after)
    }
    for (const server of servers) {
      if (server.loading && server.loading.at <= now) {
        arrive(server, now, seen.byPeer.size)
        publish(server, now)
      }
      if (now < server.joinsAt || now < server.nextDecision || server.loading) continue
      server.nextDecision = now + DECIDE_SECONDS * (0.75 + random() / 2)
      decisions++
      if (decide(server, seen, now, staleSeconds)) {
        const minute = Math.floor(now / 60)
        movesByMinute.set(minute, (movesByMinute.get(minute) ?? 0) + 1)
        mostMoves = Math.max(mostMoves, server.moves)
      }
      publish(server, now)
    }
    if (lostAt !== undefined && recoveredAt === undefined && serving.fromStart.has(blockCount))
      recoveredAt = now
    if (now % SAMPLE_SECONDS > 0) continue
    const live = [...serving.byPeer.values()]
    const bound = throughputBound(blockCount, live)
    // Machines whose memory does not hold the model together can't be placed well or badly.
    if (bound === 0) continue
    const share = maxFlow(blockCount, live) / bound
    curve.push({ seconds: now, share, servers: live.length })
    if (lostAt !== undefined && share >= BALANCED_SHARE) balancedAt ??= now
  }
  const warm = curve.filter((sample) => sample.seconds >= Math.min(WARM_UP_SECONDS, seconds))
  return {
    movesPerMinuteMax: Math.max(0, ...movesByMinute.values()),
    movesPerServerMax: mostMoves,
    moves: [...movesByMinute.values()].reduce((sum, count) => sum + count, 0),
    recoverySeconds: lostAt === undefined ? 0 : (recoveredAt ?? Infinity) - lostAt,
    throughputShare: curve.at(-1)?.share ?? 0,
    throughputShareMean: warm.reduce((sum, { share }) => sum + share, 0) / Math.max(1, warm.length),
    throughputShareMin: warm.reduce((least, { share }) => Math.min(least, share), Infinity),
    balancedSeconds: lostAt === undefined ? 0 : (balancedAt ?? Infinity) - lostAt,
    curve,
    decisions,
    news: unseen.length,
    servers: [...serving.byPeer.values()],
  }
}

/** What counts as balanced again. */
const BALANCED_SHARE = 0.9

/**
 * No placement carries more: every token needs the work of every block once, and a server does no more work than its
 * speed × its blocks, which in the simulation is the same for any span; nor more than the flow itself on each block
 * that its memory holds. 0 when memory does not hold the model.
 */
export function throughputBound(blockCount: number, servers: readonly PlacedServer[]): number {
  const machines = servers.map(({ peerId, start, end, throughput, maxBlocks }) => ({
    peerId,
    maxBlocks: maxBlocks ?? end - start,
    power: throughput * (end - start),
  }))
  return flowBound(blockCount, machines)
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
    if (!placed.intent) return false
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
function publishedRecord({ placed, loading, self, told }: SimulatedServer): PlacedServer | undefined {
  if (placed || !loading) return placed
  const { start, end } = loading
  if (told) return told
  const { peerId, maxBlocks } = self
  return { peerId, start, end, throughput: self.speed(end - start), maxBlocks, joining: true }
}

/** A span is loaded: from now on the server serves it. */
function arrive(server: SimulatedServer, now: number, servers: number): void {
  const { start, end } = server.loading!
  const { peerId, speed, maxBlocks } = server.self
  server.state = { since: now * 1_000, moves: server.placed ? server.state.moves + 1 : 0 }
  const stays = staysUntil(server.state, { loadMs: LOAD_SECONDS * 1_000 }, servers)
  server.placed = { peerId, start, end, throughput: speed(end - start), maxBlocks, staysUntil: stays }
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
    told: undefined,
    counted: undefined,
  }
}
