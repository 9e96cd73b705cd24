import type { Engine } from '../../../src/engine/engine.ts'
import type { Logger } from '../../../src/log.ts'
import { joiningSpan, startPlacementLoop } from '../../../src/server/placement-loop.ts'
import { type ServerOptions, type ServingServer, startServer } from '../../../src/server/server.ts'
import { modelRecordOf } from '../../../src/session/model-record.ts'
import type { Span } from '../../../src/session/span-runner.ts'
import type { Network } from '../../join-network.ts'
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
export interface HeldSpan extends HeldModel {
  readonly server: ServingServer
  /** Stays where it is from now on. */
  settle(): Promise<void>
}

/** Serves a span of one model: the blocks that were chosen, or those that need a server most, now and later. @throws as `startServer`. */
export async function holdSpan(options: HoldSpanOptions): Promise<HeldSpan> {
  const { held, network, engine, maxBlocks, drainMs, dwellMs, signal, log } = options
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
  const loop =
    asked === undefined
      ? startPlacementLoop({
          server,
          directory,
          model: { modelId: model.id, blockCount },
          peerId: peer.id,
          maxBlocks,
          loadMs: performance.now() - loadStarted,
          drainMs,
          ...(dwellMs !== undefined && { dwellMs, decideMs: dwellMs / 2 }),
          random: Math.random,
          log,
          onMove: options.onMove,
        })
      : undefined
  return { ...held, server, settle: async () => await loop?.stop() }
}
