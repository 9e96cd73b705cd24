import type { KvRange, KvRows } from '../kv/kv-rows.ts'
import type { Tensor } from '../tensor/tensor.ts'

/** Consecutive blocks [start, end) of a model. */
export interface Span {
  readonly start: number
  readonly end: number
}

/** Who computes which part of a route, for people and for `route` in JSON. */
export interface RouteHop extends Span {
  /** Peer id, or `local`. */
  readonly peer: string
  readonly engine: string
}

/** Anything that can run a span: the local machine, a remote server, a chain with failover, a quorum. */
export interface SpanRunner {
  readonly modelId: string
  readonly hiddenSize: number
  readonly span: Span
  /** Reserves KV room. @throws `capacity`, `unreachable`, `no_chain`, `timeout`. */
  open(options: OpenOptions): Promise<SpanSession>
  /** Frees what the runner holds. Sessions must be closed before. */
  close(): Promise<void>
}

export interface OpenOptions {
  /** Upper bound of tokens the session will ever hold, prompt and answer together. */
  maxTokens: number
  /** How many of them come at once at first: where prompts are long, other machines may be the better ones. */
  promptTokens?: number
  /** Cancels the opening only; steps have their own signal. */
  signal?: AbortSignal
  /** How this session is linked with the ones before and after it, where the machine can push; see `PushPort`. */
  push?: PushLinks
  /**
   * The hidden states of the first step, where the caller knows them: a runner may send them along with the opening.
   * The first step must then bring this very tensor and want the last row.
   */
  prompt?: Tensor
  /** Called when the opening is on its way, if the session takes steps by then; they are answered once it is open. */
  onSent?: (session: SpanSession) => void
  /** Called when servers of this session were replaced under way. Runners without failover never call it. */
  onFailover?: (failover: Failover) => void
}

/** A server of a running session failed and others took its blocks over; the session's numbers did not change. */
export interface Failover {
  /** The blocks that were replaced, which may be more than the failed server's. */
  readonly span: Span
  /** Peer id of the server that failed. */
  readonly from: string
  /** Peer ids of the servers that took over, in order. */
  readonly to: readonly string[]
  readonly reason: string
  /** From the last sign of life of the failed server until its replacement held the session's history. */
  readonly recoveryMs: number
  /** Tokens whose keys and values the server handed over before it left; the others were computed again. */
  readonly handedTokens?: number
}

/**
 * One sequence's way through a span.
 *
 * `step` may be called again before the previous call resolved: steps run in call order, so that prefill chunks
 * travel in a pipeline. When one step fails, the later ones fail with the same error until `rollback`, and the
 * position is that of the last success. A session that was lost or cancelled may refuse the rollback too: close it.
 */
export interface SpanSession {
  /** Tokens in the KV cache, counting those of steps that resolved. */
  readonly position: number
  /** Who computes what right now. */
  readonly route: readonly RouteHop[]
  /** Only where the machine behind can feed the next one of a chain directly. */
  readonly push?: PushPort
  /** hidden [tokens, hiddenSize]: prefill when tokens > 1. Returns [tokens, hiddenSize], or fewer rows as asked. */
  step(hidden: Tensor, options?: StepOptions): Promise<Tensor>
  /** Resolves when the machine behind says that it will leave soon: whoever can should bring the session elsewhere. */
  readonly leaving?: Promise<void>
  /** Tokens whose results an earlier session with the same beginning had computed, where the runner knows. */
  readonly reusedTokens?: number
  /** The session's keys and values, where its engine is on this machine and can show them. */
  readonly kv?: SessionKv
  /** Only where the machine behind may hand the session over, or take another one's part of it. */
  readonly handover?: SessionHandover | undefined
  /** Forgets everything from `position` on. No step may be under way. */
  rollback(position: number): Promise<void>
  /** Frees the KV room; calling it twice is harmless. */
  close(): Promise<void>
}

/** A session's keys and values on this machine; see `KvRows`. */
export interface SessionKv extends Pick<KvRows, 'precision' | 'width'> {
  /** Of tokens whose steps resolved. @throws `bad_request` for others, `session_lost`. */
  read(range: KvRange): Promise<Float32Array>
  /** Writes tokens behind the position. No step may be under way. */
  write(range: KvRange, rows: Float32Array): void
  /** Counts everything before `position` as written. */
  advance(position: number): void
}

/** How a session on another machine is taken over from, or by, a third one. */
export interface SessionHandover {
  /** Machines that agree in both can go on with each other's sessions. */
  readonly precision: string
  readonly width: number
  /** Lets the machine `to` read the session's tokens in these blocks from now on, for half a minute. */
  grant(to: string, blocks: Span): Promise<HandoverGrantFrom>
  /**
   * Has this session's machine get tokens [from, to) from those that the grants name; what it holds beyond `from` is
   * forgotten. No step may be under way. @returns the position reached, from `from` on. @throws when the session is lost.
   */
  adopt(grants: readonly HandoverGrantFrom[], range: AdoptRange): Promise<number>
}

/** What may be taken, and where. */
export interface HandoverGrantFrom {
  /** Signed. */
  readonly grant: Uint8Array
  /** Of the machine that has it. */
  readonly addrs: readonly string[]
}

export interface AdoptRange {
  readonly from: number
  /** Exclusive. */
  readonly to: number
  /** After that the machine says how far it came. */
  readonly deadlineMs: number
}

/** Who a session takes hidden states from, and whom it gives its own to. Tokens are 16 random bytes for each link. */
export interface PushLinks {
  readonly accept?: { readonly token: Uint8Array; readonly peerId: string }
  readonly next?: { readonly token: Uint8Array; readonly peerId: string; readonly addrs: readonly string[] }
}

/** Sessions on machines that hand their outputs to each other directly. The caller still sees every output. */
export interface PushPort {
  /** Most tokens of one step. */
  readonly maxStepTokens: number
  /** Links the session anew, after a neighbour was replaced. */
  link(links: PushLinks): void
  /** Takes the number of the next step of `tokens`. Its answer comes whoever brings the hidden states. */
  begin(tokens: number, want: NonNullable<StepOptions['want']>): PushedStep
  /** Drops the steps from number `seq` on: their answers reject, and are ignored when they come. */
  forget(seq: number): void
}

/** One step of a chain in one of its sessions. */
export interface PushedStep {
  readonly seq: number
  readonly want: NonNullable<StepOptions['want']>
  /** `pushed`: whether the output went on to the next session; undefined when none was named. */
  readonly answer: Promise<{ readonly hidden: Tensor; readonly pushed: boolean | undefined }>
  /** Brings the hidden states and names the steps after this one; the same ones twice are harmless. */
  send(hidden: Tensor, onward: readonly Pick<PushedStep, 'seq' | 'want'>[]): void
  /** Tells what the machine before gave it directly, for the session's own records. */
  given?(hidden: Tensor): void
}

export interface StepOptions {
  /** Which output rows the caller needs: all (default), only the last, or none (an inner prefill chunk). */
  want?: 'all' | 'last' | 'none'
  signal?: AbortSignal
}
