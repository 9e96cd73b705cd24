import type { Engine } from '../../../src/engine/engine.ts'
import type { Logger } from '../../../src/log.ts'
import type { ResizableSpan } from '../../../src/server/budget-loop.ts'
import { joiningSpan, startPlacementLoop } from '../../../src/server/placement-loop.ts'
import { type ServerOptions, type ServingServer, startServer } from '../../../src/server/server.ts'
import { modelRecordOf } from '../../../src/session/model-record.ts'
import type { Span } from '../../../src/session/span-runner.ts'
import type { Network } from '../../join-network.ts'
import { blockBytes } from './block-budget.ts'
import type { HeldModel } from './held-models.ts'

export interface HoldSpanOptions extends Pick<
  ServerOptions,
  'door' | 'serve' | 'maxSessions' | 'prefixCache' | 'weights'
> {
  readonly held: HeldModel
  readonly network: Network
  readonly engine: Engine
  /** Most blocks that memory holds at once. */
  readonly maxBlocks: number
  readonly drainMs: number
  /** Least time in a span that was not chosen. */
  readonly dwellMs?: number
  readonly signal: AbortSignal
  readonly log: Logger
  /** Brings a span's weights here before it is loaded, where they come from peers. */
  readonly fetchSpan?: (span: Span) => Promise<void>
  readonly onProgress: (span: Span, loadedBytes: number, totalBytes: number) => void
  /** Called before and after a move. */
  readonly onMove: (move: { readonly from: Span; readonly to: Span; readonly done: boolean }) => void
}

/** A span of one model, served. */
export interface HeldSpan extends HeldModel, ResizableSpan {
  readonly server: ServingServer
  /** Stays where it is from now on. */
  settle(): Promise<void>
}

/** Serves a span of one model: the blocks that were chosen, or those that need a server most, now and later. @throws as `startServer`. */
export async function holdSpan(options: HoldSpanOptions): Promise<HeldSpan> {
  const { held, network, engine, drainMs, dwellMs, signal, log } = options
  let { maxBlocks } = options
  const { asked, kvTokens, model } = held
  const { peer, directory } = network
  const { blockCount } = model.spec
  const span =
    asked ??
    joiningSpan(blockCount, await directory.servers(model.id), {
      peerId: peer.id,
      maxBlocks,
      now: Date.now(),
    })
  const loadStarted = performance.now()
  const server = await startServer({
    peer,
    directory,
    model: modelRecordOf(model),
    span,
    engine: engine.name,
    ...(options.door && { door: options.door }),
    ...(options.serve && { serve: options.serve }),
    ...(options.maxSessions !== undefined && { maxSessions: options.maxSessions }),
    ...(options.prefixCache !== undefined && { prefixCache: options.prefixCache }),
    ...(options.weights && { weights: options.weights }),
    load: async (blocks) => {
      await options.fetchSpan?.(blocks)
      return await engine.loadSpan(model, {
        ...blocks,
        kvTokens,
        signal,
        onProgress: (loaded, total) => options.onProgress(blocks, loaded, total),
      })
    },
  })
  let settled = false
  const startLoop = () =>
    startPlacementLoop({
      server,
      directory,
      model: { modelId: model.id, blockCount },
      peerId: peer.id,
      maxBlocks,
      loadMs,
      drainMs,
      ...(dwellMs !== undefined && { dwellMs, decideMs: dwellMs / 2 }),
      random: Math.random,
      log,
      onMove: options.onMove,
    })
  const loadMs = performance.now() - loadStarted
  let loop = asked === undefined ? startLoop() : undefined
  return {
    ...held,
    server,
    settle: async () => {
      settled = true
      await loop?.stop()
    },
    share: () => ({
      blockCount,
      blockBytes: blockBytes(model, kvTokens),
      maxBlocks,
      span: server.span,
      fixed: asked !== undefined,
    }),
    records: () => directory.servers(model.id),
    resize: async (to, blocks) => {
      await loop?.stop()
      const from = server.span
      // The larger of the two parts is this model's for as long as the move takes.
      const overlap = from.end - from.start + to.end - to.start <= Math.max(maxBlocks, blocks)
      maxBlocks = blocks
      const stays = from.start === to.start && from.end === to.end
      try {
        if (stays) return
        options.onMove({ from, to, done: false })
        await server.move(to, { overlap, drainMs })
        options.onMove({ from, to, done: true })
      } finally {
        if (!settled) loop = startLoop()
      }
    },
  }
}
