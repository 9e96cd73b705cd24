import { ChoraleError } from '../../src/errors.ts'
import type { ClientPart } from '../../src/model/client-part.ts'
import type { GenerateDone } from '../../src/session/language-model.ts'
import type { Failover, SpanRunner } from '../../src/session/span-runner.ts'
import type { AnswerRequest, Command, DraftSource, LoadedModel, Report } from './messages.ts'
import { fromWire } from './messages.ts'
import type { FirstSource } from './fetch-part.ts'
import { createPageRunner } from './page-runner.ts'
import { createPagePieces, type PieceFetcher } from './piece-link.ts'

/** What happens while an answer is computed. */
export interface AnswerEvents {
  onText(text: string): void
  onFailover(failover: Omit<Failover, 'to'>): void
  /** Messages from the front that no longer fit the context. */
  onDropped(count: number): void
}

/** A model to ask from a page: its client's part is in a worker, its blocks are behind `runner`. */
export interface TabModel {
  readonly loaded: LoadedModel
  /** @throws `context_length`, `no_chain`, `capacity`, `session_lost`. A stopped answer is done, not failed. */
  answer(request: AnswerRequest, events: AnswerEvents, signal: AbortSignal): Promise<GenerateDone>
  /** Ends the worker and frees sessions on servers. */
  close(): Promise<void>
}

export interface TabModelOptions {
  readonly part: ClientPart
  readonly url: string
  readonly key: string | undefined
  readonly draft: DraftSource | undefined
  /** Runs all blocks; may come later than the weights. */
  readonly runner: SpanRunner
  /** Weights from peers, and who is asked first. */
  readonly pieces: PieceFetcher
  readonly first: FirstSource
  readonly onProgress: (loadedBytes: number, totalBytes: number, peers: number) => void
  readonly onLog: (line: string) => void
}

interface Running {
  readonly events: AnswerEvents
  resolve(done: GenerateDone): void
  reject(error: unknown): void
}

/** Loads a client's part in a worker. @throws `unreachable`, `bad_file`, `engine`. */
export async function loadTabModel(options: TabModelOptions): Promise<TabModel> {
  const { part, url, key, draft, runner, onProgress, onLog } = options
  const worker = new Worker(new URL('./worker.ts', import.meta.url), { type: 'module' })
  const post = (command: Command, transfer: Transferable[] = []) => worker.postMessage(command, transfer)
  const answerPieces = createPagePieces(options.pieces, post)
  const page = createPageRunner(runner, post)
  const running = new Map<number, Running>()
  let answers = 0
  const failAll = (error: unknown) => {
    for (const answer of running.values()) answer.reject(error)
    running.clear()
  }

  const loaded = await new Promise<LoadedModel>((resolve, reject) => {
    worker.addEventListener('error', (event) => {
      const error = new ChoraleError('engine', `the worker failed: ${event.message || 'it did not start'}`)
      reject(error)
      failAll(error)
    })
    worker.addEventListener('message', ({ data }: MessageEvent<Report>) => {
      switch (data.type) {
        case 'progress':
          onProgress(data.loadedBytes, data.totalBytes, data.peers)
          return
        case 'wantPieces':
          answerPieces(data)
          return
        case 'loaded':
          resolve(data.model)
          return
        case 'loadFailed':
          reject(fromWire(data.error))
          return
        case 'log':
          onLog(data.text)
          return
        case 'fitted':
          if (data.dropped > 0) running.get(data.id)?.events.onDropped(data.dropped)
          return
        case 'text':
          running.get(data.id)?.events.onText(data.text)
          return
        case 'failover':
          running.get(data.id)?.events.onFailover(data.failover)
          return
        case 'done': {
          const answer = running.get(data.id)
          if (data.done.text !== '') answer?.events.onText(data.done.text)
          answer?.resolve(data.done)
          return
        }
        case 'answerFailed':
          running.get(data.id)?.reject(fromWire(data.error))
          return
        default:
          page.receive(data)
      }
    })
    post({ type: 'load', part, url, key, first: options.first, draft })
  }).catch((error: unknown) => {
    worker.terminate()
    throw error
  })

  return {
    loaded,
    async answer(request, events, signal) {
      const id = ++answers
      const onAbort = () => post({ type: 'stop', id })
      try {
        return await new Promise<GenerateDone>((resolve, reject) => {
          running.set(id, { events, resolve, reject })
          post({ type: 'answer', id, request })
          signal.addEventListener('abort', onAbort, { once: true })
          if (signal.aborted) onAbort()
        })
      } finally {
        running.delete(id)
        signal.removeEventListener('abort', onAbort)
      }
    },
    async close() {
      failAll(new ChoraleError('cancelled', 'the model was closed'))
      worker.terminate()
      await page.close()
    },
  }
}
