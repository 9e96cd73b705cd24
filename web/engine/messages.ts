import { ChoraleError, errorCode, errorMessage, type ErrorCode } from '../../src/errors.ts'
import type { BlockPart } from '../../src/model/block-part.ts'
import type { ClientPart } from '../../src/model/client-part.ts'
import type { SamplingOptions } from '../../src/sampling/options.ts'
import type { GenerateDone } from '../../src/session/language-model.ts'
import type { Failover, RouteHop, StepOptions } from '../../src/session/span-runner.ts'
import type { ChatMessage } from '../../src/tokenizer/tokenizer.ts'
import type { FirstSource } from './fetch-part.ts'
import type { PieceCall, PieceReply } from './piece-link.ts'

/**
 * What the page and its worker say to each other. The page holds the network and the screen; the worker holds the
 * tokenizer, the client's weights and the engine, and drives the answer. Tensors are transferred, not copied.
 */

/** An error as data; `fromWire` makes it an error again. */
export interface WireError {
  readonly code: ErrorCode
  readonly message: string
  readonly field: string | undefined
}

/** A tensor as data. */
export interface WireTensor {
  readonly shape: readonly [rows: number, columns: number]
  readonly data: Float32Array
}

/** A conversation to continue. */
export interface AnswerRequest {
  readonly messages: readonly ChatMessage[]
  readonly system: string | undefined
  readonly maxTokens: number | undefined
  readonly sampling: SamplingOptions
}

/** Where a draft model comes from: its client's part and its blocks. */
export interface DraftSource {
  readonly part: ClientPart
  readonly url: string
  readonly blocks: readonly { readonly part: BlockPart; readonly url: string }[]
}

/** What was loaded, for people. */
export interface LoadedModel {
  readonly engine: string
  readonly engineDescription: string
  readonly why: string
  readonly contextLength: number
  readonly hasChatTemplate: boolean
  /** The name of the model that guesses for it. */
  readonly draft: string | undefined
  /** Bytes that came over the network, and bytes that were here already. */
  readonly fetchedBytes: number
  readonly cachedBytes: number
}

/** One thing the page asks of the worker. */
export type Command =
  | {
      readonly type: 'load'
      readonly part: ClientPart
      /** Blobs of the part are at this address, each under its name. */
      readonly url: string
      readonly key: string | undefined
      readonly first: FirstSource
      /** A model that guesses for it. */
      readonly draft: DraftSource | undefined
    }
  | { readonly type: 'answer'; readonly id: number; readonly request: AnswerRequest }
  | { readonly type: 'stop'; readonly id: number }
  | SpanReply
  | PieceReply

/** What the page tells of a session that it holds for the worker. */
export type SpanReply =
  | { readonly type: 'opened'; readonly call: number; readonly route: readonly RouteHop[] }
  | {
      readonly type: 'stepped'
      readonly call: number
      readonly output: WireTensor
      /** Left out while it is the one that was told last. */
      readonly route?: readonly RouteHop[]
    }
  | { readonly type: 'finished'; readonly call: number; readonly route?: readonly RouteHop[] }
  | { readonly type: 'failed'; readonly call: number; readonly error: WireError }
  | { readonly type: 'moved'; readonly session: number; readonly failover: Failover }

/** One thing the worker asks of the page: its half of a `SpanRunner`. */
export type SpanCall =
  | { readonly type: 'open'; readonly call: number; readonly session: number; readonly maxTokens: number }
  | {
      readonly type: 'step'
      readonly call: number
      readonly session: number
      readonly hidden: WireTensor
      readonly want: StepOptions['want']
    }
  | { readonly type: 'rollback'; readonly call: number; readonly session: number; readonly position: number }
  | { readonly type: 'close'; readonly call: number; readonly session: number }
  /** The caller no longer waits for this call. */
  | { readonly type: 'abort'; readonly call: number }

/** How far the weights are; `peers` gave some of them. */
export interface LoadProgress {
  readonly type: 'progress'
  readonly loadedBytes: number
  readonly totalBytes: number
  readonly peers: number
}

/** What the worker tells the page. */
export type Report =
  | LoadProgress
  | PieceCall
  | { readonly type: 'loaded'; readonly model: LoadedModel }
  | { readonly type: 'loadFailed'; readonly error: WireError }
  /** Messages from the front that no longer fit the context. */
  | { readonly type: 'fitted'; readonly id: number; readonly dropped: number }
  | { readonly type: 'text'; readonly id: number; readonly text: string }
  | { readonly type: 'failover'; readonly id: number; readonly failover: Omit<Failover, 'to'> }
  | { readonly type: 'done'; readonly id: number; readonly done: GenerateDone }
  | { readonly type: 'answerFailed'; readonly id: number; readonly error: WireError }
  | { readonly type: 'log'; readonly text: string }
  | SpanCall

export function toWire(error: unknown): WireError {
  const field = error instanceof ChoraleError ? error.field : undefined
  return { code: errorCode(error), message: errorMessage(error), field }
}

export function fromWire({ code, message, field }: WireError): ChoraleError {
  return new ChoraleError(code, message, field === undefined ? {} : { field })
}

/** A tensor whose memory is its own and may be transferred. */
export function ownTensor({ shape, data }: WireTensor): WireTensor {
  const whole = data.byteLength === data.buffer.byteLength && data.buffer instanceof ArrayBuffer
  return { shape, data: whole ? data : data.slice() }
}
