import type { Logger } from '../log.ts'
import type { BanOptions } from '../routing/bans.ts'
import type { RouteRequest } from '../routing/route.ts'
import type { ModelRecord, PeerMeasure, ServerRecord } from '../routing/snapshot.ts'
import type { Directory } from './directory.ts'
import type { Failover, RouteHop, SpanRunner } from './span-runner.ts'
import type { StepPaceOptions } from './step-pace.ts'

/** What a chain needs, and its limits. Times are milliseconds. */
export interface ChainOptions {
  readonly model: ModelRecord
  readonly directory: Directory
  /**
   * A runner for the server's span. It is opened once and closed with the session; `signal` aborts when the chain
   * no longer wants it.
   */
  readonly connect: (server: ServerRecord, signal: AbortSignal) => SpanRunner | Promise<SpanRunner>
  /** Round trips measured so far, by peer id. */
  readonly measures?: () => ReadonlyMap<string, PeerMeasure>
  readonly routing?: Pick<RouteRequest, 'hopCostMs' | 'sessionLoad' | 'spread'>
  /** A number a session: draws among equal routes (default: always the same). */
  readonly seed?: () => number
  readonly bans?: BanOptions
  readonly pace?: StepPaceOptions
  /** Tokens in one piece of a prefill (default 64). */
  readonly chunkTokens?: number
  /** Pieces of a prefill under way at once (default: two more than there are hops). */
  readonly window?: number
  /** Let servers hand outputs to each other (default true); false: everything goes through this client. */
  readonly push?: boolean
  /** Let servers that leave hand keys and values over (default true); false: histories are replayed. */
  readonly handover?: boolean
  /** For one server to accept a session (default 5 s). */
  readonly hopOpenMs?: number
  /** For `open` to wait for servers while some block has none (default 3 s). */
  readonly openWaitMs?: number
  /** For a running session to wait for servers while a lost span has none (default 30 s). */
  readonly recoveryWaitMs?: number
  /** Servers to try before giving a session up (default 16); a swarm of liars must not keep a client for ever. */
  readonly attempts?: number
  /** Milliseconds since the epoch. */
  readonly clock?: () => number
  readonly log?: Logger
  readonly onEvent?: (event: ChainEvent) => void
}

/** What happens in a chain, for the terminal, metrics and tests. */
export type ChainEvent =
  | { readonly type: 'opened'; readonly route: readonly RouteHop[] }
  | { readonly type: 'banned'; readonly peer: string; readonly reason: string }
  | ({ readonly type: 'failover' } & Failover)
