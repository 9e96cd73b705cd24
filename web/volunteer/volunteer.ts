import { signal } from '@preact/signals'
import { ChoraleError, errorCode, errorMessage } from '../../src/errors.ts'
import type { Span } from '../../src/session/span-runner.ts'
import { startServer, type ServingServer } from '../../src/server/server.ts'
import type { EngineWish } from '../engine/choose-engine.ts'
import type { LoadedSpan } from '../engine/span-messages.ts'
import { loadTabSpan } from '../engine/tab-span.ts'
import { joinAsServer, type TabServerPeer } from '../network/join-as-server.ts'
import { createGateway } from '../session/gateway.ts'
import { problemText } from '../session/problem-text.ts'
import { note, tabLog } from '../session/tab-log.ts'
import { createTabPieces, shareTabCache } from '../network/tab-pieces.ts'
import type { BlobService } from '../../src/swarm/blob-serve.ts'
import { gatewayOf, settings } from '../settings/settings.ts'
import { openTabStake, type TabStake } from './tab-stake.ts'
import { blockAddresses, makePlan, type Plan } from './plan.ts'

/** What the tab does for others right now. */
export type Stage =
  | { readonly kind: 'idle' }
  | { readonly kind: 'joining' }
  | {
      readonly kind: 'loading'
      readonly loadedBytes: number
      readonly totalBytes: number
      /** That gave some of it. */
      readonly peers: number
    }
  | { readonly kind: 'serving' }
  | { readonly kind: 'finishing' }
  /** Takes no sessions; `byItself` when the page was hidden and the user wants that. */
  | { readonly kind: 'paused'; readonly byItself: boolean }
  | { readonly kind: 'failed'; readonly problem: string }

/** What a user lends. */
export interface Offer {
  readonly memoryBytes: number
  /** Undefined: the blocks that need it most. */
  readonly blocks: Span | undefined
  readonly engine: EngineWish
  /** Serve only while the page is on the screen. */
  readonly onlyVisible: boolean
  /** Keep the screen on while serving. */
  readonly keepAwake: boolean
}

/** What is served, and how much. */
export interface Live {
  readonly span: Span
  readonly model: string
  readonly peerId: string
  readonly loaded: LoadedSpan
  /** Measured at the start, tokens per second. */
  readonly throughput: number
  readonly sessions: number
  /** Tokens computed for others since the start, and in the last second. */
  readonly tokens: number
  readonly tokensPerSecond: number
  readonly bytesIn: number
  readonly bytesOut: number
  /** Weights given to others; undefined where that is switched off. */
  readonly sharedBytes: number | undefined
  readonly addrs: readonly string[]
}

export const stage = signal<Stage>({ kind: 'idle' })
export const live = signal<Live | undefined>(undefined)

/** Sessions get this long to end by themselves. */
const DRAIN_MS = 30_000
const LIVE_MS = 1_000
/** A relay that came back gets this long to be noticed before the tab joins anew. */
const RELAY_LOST_TICKS = 8

interface Serving {
  readonly server: ServingServer
  readonly peer: TabServerPeer
  readonly stake: TabStake | undefined
  end(): void
}

let serving: Serving | undefined
/** Counts starts, so that what a stopped start still does has no effect. */
let attempt = 0

/** What would be served, for a look before the start. @throws what the gateway throws. */
export async function preview(offer: Offer): Promise<Plan> {
  const { url, key } = gatewayOf()
  return await makePlan(createGateway(url, key), offer.memoryBytes, offer.blocks)
}

/** Joins the network, loads blocks and serves them. Failures end in `stage`. */
export async function start(offer: Offer): Promise<void> {
  const mine = ++attempt
  stage.value = { kind: 'joining' }
  let peer: TabServerPeer | undefined
  let stake: TabStake | undefined
  try {
    const { url, key } = gatewayOf()
    const gateway = createGateway(url, key)
    const plan = await makePlan(gateway, offer.memoryBytes, offer.blocks)
    const { model, span, state } = plan
    // Said before anything is loaded.
    stake = state.subnet && (await openTabStake(state.subnet))
    const blocks = await blockAddresses(gateway, plan)
    const joined = await joinAsServer(
      [...state.bootstrap, ...state.servers.flatMap((server) => server.addrs)],
      stake,
      tabLog,
    )
    peer = joined
    const made = await loadTabSpan({
      model,
      blocks,
      key,
      kvTokens: plan.kvTokens,
      engine: offer.engine,
      pieces: createTabPieces(joined.peer, joined.directory, model.id),
      first: model.given === false ? 'peers only' : settings.value.weightsFrom,
      onProgress: (loadedBytes, totalBytes, peers) => {
        if (mine === attempt) stage.value = { kind: 'loading', loadedBytes, totalBytes, peers }
      },
      onLog: note,
      onLost: (error) => void restart(mine, offer, errorMessage(error)),
    })
    const { share } = settings.value
    const sharing = share === 'off' ? undefined : await shareTabCache(joined.peer, Number(share) * 1e6)
    const server = await startServer({
      peer: joined.peer,
      directory: joined.directory,
      model: {
        modelId: model.id,
        name: model.name,
        blockCount: model.spec.blockCount,
        hiddenSize: model.spec.hiddenSize,
      },
      span,
      // Announced as it computes: the choice fell when the blocks were loaded.
      engine: made.loaded.engine,
      weights: () => ({ blobs: sharing !== undefined }),
      load: async () => made.span,
    })
    if (mine !== attempt) {
      await server.stop(0)
      throw new ChoraleError('cancelled', 'stopped')
    }
    serving = keepServing({ server, peer: joined, stake, offer, mine, model: model.name, sharing, ...made })
    stage.value = { kind: 'serving' }
  } catch (error) {
    await peer?.close()
    await stake?.close()
    if (mine !== attempt) return
    const field = error instanceof ChoraleError ? error.field : undefined
    note(`serving failed: ${errorMessage(error)}`)
    stage.value = { kind: 'failed', problem: problemText(errorCode(error), errorMessage(error), field) }
  }
}

/** Lets sessions end, then leaves. A second call leaves at once. */
export async function finish(): Promise<void> {
  const now = stage.value.kind === 'finishing'
  if (!now) stage.value = { kind: 'finishing' }
  await leave(now ? 0 : DRAIN_MS)
  stage.value = { kind: 'idle' }
}

/** Leaves as `finish` does and remembers to come back; the blocks stay in the cache. */
export async function pause(byItself: boolean): Promise<void> {
  stage.value = { kind: 'finishing' }
  await leave(byItself ? 5_000 : DRAIN_MS)
  stage.value = { kind: 'paused', byItself }
}

// Leaves at once when the page goes away.
globalThis.addEventListener('pagehide', () => void leave(0))

async function leave(drainMs: number): Promise<void> {
  attempt++
  const ending = serving
  ending?.end()
  await ending?.server.stop(drainMs)
  await ending?.peer.close()
  await ending?.stake?.close()
  if (serving === ending) serving = undefined
  live.value = undefined
}

async function restart(mine: number, offer: Offer, reason: string): Promise<void> {
  if (mine !== attempt) return
  note(`serving again: ${reason}`)
  await leave(0)
  await start(offer)
}

/** Shows live numbers once a second, keeps the tab from being frozen, and joins anew when the relay is lost. */
function keepServing(given: {
  readonly server: ServingServer
  readonly peer: TabServerPeer
  readonly stake: TabStake | undefined
  readonly offer: Offer
  readonly mine: number
  readonly model: string
  readonly sharing: BlobService | undefined
  readonly loaded: LoadedSpan
  readonly tokens: () => number
}): Serving {
  const { server, peer, stake, offer, mine, model, loaded, tokens } = given
  const ended = new AbortController()
  let before = tokens()
  const atStart = before
  let lost = 0
  const tick = () => {
    const count = tokens()
    const addrs = peer.peer.addrs()
    live.value = {
      span: server.span,
      model,
      peerId: peer.peer.id,
      loaded,
      throughput: server.throughput,
      sessions: server.sessions,
      tokens: count - atStart,
      tokensPerSecond: ((count - before) * 1000) / LIVE_MS,
      bytesIn: server.counters.bytesIn,
      bytesOut: server.counters.bytesOut,
      sharedBytes: given.sharing?.sent.bytes,
      addrs,
    }
    before = count
    lost = addrs.length === 0 ? lost + 1 : 0
    if (lost > RELAY_LOST_TICKS) void restart(mine, offer, 'the relay is gone')
  }
  tick()
  const timer = setInterval(tick, LIVE_MS)
  holdLock(ended.signal)
  if (offer.keepAwake) keepAwake(ended.signal)
  if (offer.onlyVisible) pauseWhenHidden(offer, ended.signal)
  return {
    server,
    peer,
    stake,
    end: () => {
      clearInterval(timer)
      ended.abort()
    },
  }
}

/** A page that holds a lock is not frozen in the background. */
function holdLock(ended: AbortSignal): void {
  void navigator.locks
    .request('chorale-serving', { mode: 'shared' }, async () => {
      await new Promise<void>((resolve) => ended.addEventListener('abort', () => resolve(), { once: true }))
    })
    .catch(() => undefined)
}

function keepAwake(ended: AbortSignal): void {
  const ask = async () => {
    const lock = await navigator.wakeLock.request('screen')
    ended.addEventListener('abort', () => void lock.release(), { once: true })
  }
  const onVisible = () => {
    // The browser takes the lock back when the page is hidden.
    if (!document.hidden) void ask().catch(() => undefined)
  }
  onVisible()
  document.addEventListener('visibilitychange', onVisible, { signal: ended })
}

function pauseWhenHidden(offer: Offer, ended: AbortSignal): void {
  const onChange = () => {
    if (!document.hidden || stage.value.kind !== 'serving') return
    const onReturn = () => {
      if (document.hidden || stage.value.kind !== 'paused' || !stage.value.byItself) return
      document.removeEventListener('visibilitychange', onReturn)
      void start(offer)
    }
    void pause(true).then(() => {
      document.addEventListener('visibilitychange', onReturn)
      onReturn()
      return undefined
    })
  }
  document.addEventListener('visibilitychange', onChange, { signal: ended })
}
