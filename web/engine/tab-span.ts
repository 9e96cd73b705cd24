import { checkEntries } from '../../src/engine/check-entries.ts'
import type { EngineSpan, KvLease } from '../../src/engine/engine.ts'
import { ChoraleError } from '../../src/errors.ts'
import { PagePool, type PagedLease } from '../../src/kv/pages.ts'
import type { ClientPart } from '../../src/model/client-part.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'
import type { EngineWish } from './choose-engine.ts'
import { fromWire, ownTensor } from './messages.ts'
import type { FirstSource } from './fetch-part.ts'
import { createPagePieces, type PieceFetcher } from './piece-link.ts'
import type { BlockAddress, LoadedSpan, SpanCommand, SpanReport } from './span-messages.ts'

/** A span whose engine is in a worker. */
export interface TabSpan {
  readonly span: EngineSpan
  readonly loaded: LoadedSpan
  /** Tokens that went through it. */
  readonly tokens: () => number
}

export interface TabSpanOptions {
  readonly model: ClientPart
  /** Consecutive blocks. */
  readonly blocks: readonly BlockAddress[]
  readonly key: string | undefined
  readonly kvTokens: number
  readonly engine: EngineWish
  /** Weights from peers, and who is asked first. */
  readonly pieces: PieceFetcher
  readonly first: FirstSource
  readonly onProgress: (loadedBytes: number, totalBytes: number, peers: number) => void
  readonly onLog: (line: string) => void
  /** The engine died, e.g. its GPU was lost. */
  readonly onLost: (error: ChoraleError) => void
}

interface Waiting {
  resolve(outputs: Tensor[]): void
  reject(error: unknown): void
}

/** Loads blocks in a worker. @throws `unreachable`, `bad_file`, `engine`, `capacity`. */
export async function loadTabSpan(options: TabSpanOptions): Promise<TabSpan> {
  const { onProgress, onLog, onLost, pieces, ...load } = options
  const worker = new Worker(new URL('./span-worker.ts', import.meta.url), { type: 'module' })
  const post = (command: SpanCommand, transfer: Transferable[] = []) => worker.postMessage(command, transfer)
  const answerPieces = createPagePieces(pieces, post)
  const waiting = new Map<number, Waiting>()
  const loaded = await new Promise<LoadedSpan>((resolve, reject) => {
    worker.addEventListener('error', (event) => {
      const error = new ChoraleError('engine', `the worker failed: ${event.message || 'it did not start'}`)
      reject(error)
      for (const waiter of waiting.values()) waiter.reject(error)
      waiting.clear()
      onLost(error)
    })
    worker.addEventListener('message', ({ data }: MessageEvent<SpanReport>) => {
      switch (data.type) {
        case 'progress':
          onProgress(data.loadedBytes, data.totalBytes, data.peers)
          return
        case 'wantPieces':
          answerPieces(data)
          return
        case 'loaded':
          resolve(data.span)
          return
        case 'loadFailed':
          reject(fromWire(data.error))
          return
        case 'stepped':
          waiting.get(data.call)?.resolve([...data.outputs])
          waiting.delete(data.call)
          return
        case 'stepFailed':
          waiting.get(data.call)?.reject(fromWire(data.error))
          waiting.delete(data.call)
          return
        case 'log':
          onLog(data.text)
      }
    })
    post({ type: 'load', ...load })
  }).catch((error: unknown) => {
    worker.terminate()
    throw error
  })

  const start = load.blocks[0]?.part.block ?? 0
  // Leases are granted here, at once, by the same count of pages as the engine's own.
  const pool = new PagePool(loaded.kvTokens)
  const granted = new WeakMap<KvLease, PagedLease>()
  /** What the worker calls them. */
  const numbers = new WeakMap<PagedLease, number>()
  let leases = 0
  let calls = 0
  let tokens = 0

  const span: EngineSpan = {
    start,
    end: start + load.blocks.length,
    weightBytes: loaded.weightBytes,
    kvBytes: loaded.kvBytes,
    kvTokens: loaded.kvTokens,
    get kvTokensFree() {
      return pool.freeTokens
    },
    lease(maxTokens) {
      const paged = pool.lease(maxTokens)
      const number = ++leases
      post({ type: 'lease', lease: number, maxTokens })
      const lease: KvLease = {
        maxTokens,
        get position() {
          return paged.position
        },
        rollback(position) {
          paged.rollback(position)
          post({ type: 'rollback', lease: number, position })
        },
        release() {
          if (paged.released) return
          paged.release()
          post({ type: 'release', lease: number })
        },
      }
      granted.set(lease, paged)
      numbers.set(paged, number)
      return lease
    },
    async step(entries) {
      const inputs = checkEntries(load.model.spec.hiddenSize, granted, entries)
      for (const { lease, hidden } of inputs) lease.reserve(hidden.shape[0])
      const call = ++calls
      // Copied: the caller keeps its hidden states, for a step that is repeated.
      const sent = inputs.map(({ lease, hidden }) => ({
        lease: numbers.get(lease) as number,
        hidden: ownTensor({ shape: hidden.shape, data: hidden.data.slice() }),
      }))
      const outputs = await new Promise<Tensor[]>((resolve, reject) => {
        waiting.set(call, { resolve, reject })
        post(
          { type: 'step', call, entries: sent },
          sent.map(({ hidden }) => hidden.data.buffer as ArrayBuffer),
        )
      })
      for (const { lease, hidden } of inputs) {
        lease.advance(hidden.shape[0])
        tokens += hidden.shape[0]
      }
      return outputs
    },
    async close() {
      worker.terminate()
      const closed = new ChoraleError('engine', 'the span was closed')
      for (const waiter of waiting.values()) waiter.reject(closed)
      waiting.clear()
    },
  }
  return { span, loaded, tokens: () => tokens }
}
