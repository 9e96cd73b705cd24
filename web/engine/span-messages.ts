import type { EngineName } from '../../src/engine/engine.ts'
import type { BlockPart } from '../../src/model/block-part.ts'
import type { ClientPart } from '../../src/model/client-part.ts'
import type { EngineWish } from './choose-engine.ts'
import type { FirstSource } from './fetch-part.ts'
import type { LoadProgress, WireError, WireTensor } from './messages.ts'
import type { PieceCall, PieceReply } from './piece-link.ts'

/** What a page that serves and its worker say to each other: an `EngineSpan` in messages. */

/** One block to load: its description, and where its bytes are. */
export interface BlockAddress {
  readonly part: BlockPart
  readonly url: string
}

export type SpanCommand =
  | {
      readonly type: 'load'
      readonly model: ClientPart
      readonly blocks: readonly BlockAddress[]
      readonly key: string | undefined
      readonly first: FirstSource
      readonly kvTokens: number
      readonly engine: EngineWish
    }
  | PieceReply
  | { readonly type: 'lease'; readonly lease: number; readonly maxTokens: number }
  | { readonly type: 'rollback'; readonly lease: number; readonly position: number }
  | { readonly type: 'release'; readonly lease: number }
  | {
      readonly type: 'step'
      readonly call: number
      readonly entries: readonly { readonly lease: number; readonly hidden: WireTensor }[]
    }

/** What was loaded. */
export interface LoadedSpan {
  readonly engine: EngineName
  readonly engineDescription: string
  readonly why: string
  readonly weightBytes: number
  readonly kvBytes: number
  readonly kvTokens: number
}

export type SpanReport =
  | LoadProgress
  | PieceCall
  | { readonly type: 'loaded'; readonly span: LoadedSpan }
  | { readonly type: 'loadFailed'; readonly error: WireError }
  | { readonly type: 'stepped'; readonly call: number; readonly outputs: readonly WireTensor[] }
  | { readonly type: 'stepFailed'; readonly call: number; readonly error: WireError }
  | { readonly type: 'log'; readonly text: string }
