import type { Model } from '../model/model.ts'
import type { SampledToken, SamplingOptions } from '../sampling/options.ts'
import type { Tokenizer } from '../tokenizer/tokenizer.ts'
import type { DraftStats, DraftWish } from './draft-laps.ts'
import type { RouteHop, Span } from './span-runner.ts'

/** A model one can ask, wherever its blocks run. The gateway, the terminal and the pages drive this and nothing below it. */
export interface LanguageModel {
  readonly model: Model
  readonly tokenizer: Tokenizer
  /** Longest prompt and answer together that is accepted. */
  readonly contextLength: number
  /**
   * Streams one answer. The last event is always `done`; stopping the iteration or aborting the signal
   * frees the session on every server.
   * @throws `context_length` before anything runs, `no_chain`, `capacity`, `session_lost`.
   */
  generate(request: GenerateRequest): AsyncGenerator<GenerateEvent, void, void>
  /** Whether every block has a server now; `missing` names the blocks that have none. */
  readiness(): Promise<{ readonly ready: boolean; readonly missing: readonly Span[] }>
  close(): Promise<void>
}

export interface GenerateRequest {
  readonly promptIds: readonly number[]
  /** Most tokens of the answer; default: what the context has left, up to the room a client leases for open answers. */
  readonly maxTokens?: number
  readonly sampling?: SamplingOptions
  /** The answer ends before any of these strings; none of it is emitted. */
  readonly stop?: readonly string[]
  /** Go on past end-of-sequence tokens (benchmarks, traces). */
  readonly ignoreEos?: boolean
  /**
   * Guess tokens, from what the text already holds (`lookup`) and with the client's draft model (`model`, where it has
   * one), and have several checked in one lap of the chain; `true`: both. The tokens are the same either way; default:
   * what the model's client was made with.
   */
  readonly drafts?: DraftWish
  readonly signal?: AbortSignal
}

export type GenerateEvent =
  /** One token of the answer. `text` is what may be shown now: whole characters, no part of a stop string; often ''. */
  | { readonly type: 'token'; readonly token: SampledToken; readonly text: string }
  | {
      readonly type: 'failover'
      readonly span: Span
      readonly from: string
      readonly reason: string
      readonly recoveryMs: number
    }
  | GenerateDone

export interface GenerateDone {
  readonly type: 'done'
  /** Text held back until now; append it. */
  readonly text: string
  /** `stop`: end-of-sequence or a stop string; `length`: maxTokens or context; `cancelled`: the signal. */
  readonly finishReason: 'stop' | 'length' | 'cancelled'
  readonly usage: {
    readonly promptTokens: number
    readonly completionTokens: number
    /** Tokens of the prompt that were not computed again, where the machine that runs the blocks says so. */
    readonly cachedTokens?: number
  }
  readonly timings: { readonly prefillMs: number; readonly decodeMs: number; readonly firstTokenMs: number }
  readonly route: readonly RouteHop[]
  readonly failovers: number
  /** With drafts: laps after the prompt, and how many guesses they carried and confirmed. */
  readonly drafts?: DraftStats
}
