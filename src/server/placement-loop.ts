import { errorMessage } from '../errors.ts'
import type { Logger } from '../log.ts'
import {
  bestSpan,
  decideMove,
  JOIN_SPREAD,
  type MoveState,
  placedServers,
  type PlacementRecord,
  type PlacementSelf,
  staysUntil,
  viewPlacement,
} from '../routing/placement.ts'
import type { Directory } from '../session/directory.ts'
import type { Span } from '../session/span-runner.ts'
import { lookNowAndThen } from './look-now-and-then.ts'
import { ANNOUNCE_MS, type ServingServer } from './server.ts'

/** Which blocks a server that joins should take, by the records it sees. Pure. @param speed tokens per second with one block. */
export function joiningSpan(
  blockCount: number,
  records: readonly PlacementRecord[],
  { peerId, maxBlocks, now }: { readonly peerId: string; readonly maxBlocks: number; readonly now: number },
): Span {
  const servers = placedServers(blockCount, records, now).filter((server) => server.peerId !== peerId)
  const powers = servers.map(({ start, end, throughput }) => throughput * (end - start))
  // Nobody knows its own speed before it computed: like the others'.
  const power = powers.length === 0 ? 1 : powers.reduce((sum, value) => sum + value, 0) / powers.length
  const self = { peerId, maxBlocks, speed: (blocks: number) => power / blocks }
  const { start, end } = bestSpan(viewPlacement(blockCount, servers), self, { spread: JOIN_SPREAD })
  return { start, end }
}

export interface PlacementLoopOptions {
  readonly server: ServingServer
  readonly directory: Directory
  readonly model: { readonly modelId: string; readonly blockCount: number }
  readonly peerId: string
  /** Most blocks that memory holds at once. */
  readonly maxBlocks: number
  /** How long loading took. */
  readonly loadMs: number
  /** Sessions of the old span get this long to finish or to go elsewhere. */
  readonly drainMs: number
  /** About how often to look (default two minutes; a quarter more or less, so that servers don't look at once). */
  readonly decideMs?: number
  /** Least time in a span (default ten minutes). */
  readonly dwellMs?: number
  /** Within this time everybody has a new record (default 10 s). */
  readonly publishMs?: number
  readonly random: () => number
  readonly log: Logger
  readonly now?: () => number
  /** Called before and after a move. */
  readonly onMove?: (move: { readonly from: Span; readonly to: Span; readonly done: boolean }) => void
}

const DECIDE_MS = 120_000

/**
 * Looks now and then whether the swarm needs this server elsewhere, says so, waits, and moves: what `decideMove` decides
 * is done here. The new span is loaded before the old one goes where memory holds both.
 * @returns how to stop; a move under way is finished by then.
 */
export function startPlacementLoop(options: PlacementLoopOptions): { stop(): Promise<void> } {
  const { server, directory, model, peerId, maxBlocks, log, random } = options
  const now = options.now ?? Date.now
  const publishMs = options.publishMs ?? ANNOUNCE_MS
  let state: MoveState = { since: now(), moves: 0 }
  let loadMs = options.loadMs
  /** Servers of the model when it last looked. */
  let known = 1

  const look = async (signal: AbortSignal): Promise<void> => {
    const records = await directory.servers(model.modelId)
    const { span, throughput } = server
    const power = throughput * (span.end - span.start)
    const self: PlacementSelf = { peerId, maxBlocks, speed: (blocks) => power / blocks }
    // The directory may show an older word of this server than itself knows.
    const others = placedServers(model.blockCount, records, now()).filter((one) => one.peerId !== peerId)
    const mine = {
      peerId,
      ...span,
      throughput,
      maxBlocks,
      ...(state.intent && { intent: state.intent.span }),
    }
    const view = viewPlacement(model.blockCount, [...others, mine])
    const timing = { now: now(), loadMs, publishMs, dwellMs: options.dwellMs }
    const decision = decideMove(view, self, state, timing)
    if (signal.aborted) return
    known = view.byPeer.size
    describe()
    if (decision.kind === 'stay') {
      log.debug('stays in its span', { start: span.start, end: span.end, reason: decision.reason })
      if (!state.intent) return
      state = { since: state.since, moves: state.moves }
      await server.intend(undefined)
    } else if (decision.kind === 'intend') {
      const { intent } = state
      if (intent?.span.start === decision.span.start && intent.span.end === decision.span.end) return
      state = { ...state, intent: { span: decision.span, at: now() } }
      await server.intend(decision.span)
    } else {
      await move(span, decision.span)
    }
  }

  const move = async (from: Span, to: Span): Promise<void> => {
    log.info('moves to other blocks', { from: `${from.start}:${from.end}`, to: `${to.start}:${to.end}` })
    options.onMove?.({ from, to, done: false })
    const started = now()
    const overlap = from.end - from.start + to.end - to.start <= maxBlocks
    try {
      await server.move(to, { overlap, drainMs: options.drainMs })
      loadMs = now() - started
      options.onMove?.({ from, to, done: true })
    } finally {
      // A move that failed counts too: it is not tried again at once.
      state = { since: now(), moves: state.moves + 1 }
      describe()
    }
  }

  /** Others plan with what the records say. */
  const describe = (): void => {
    const stays = staysUntil(state, { dwellMs: options.dwellMs, loadMs }, known)
    server.describeMobility({ maxBlocks, staysUntil: Math.ceil(stays) })
  }

  describe()
  const looks = lookNowAndThen({
    look,
    // While an intent waits for others to see it, the wait is what counts.
    pauseMs: () => (state.intent ? 2 * publishMs : (options.decideMs ?? DECIDE_MS)),
    onError: (error) => log.warn('placement failed', { reason: errorMessage(error) }),
    random,
  })
  return {
    stop: async () => {
      await looks.stop()
      server.describeMobility(undefined)
    },
  }
}
