/// <reference lib="webworker" />
import type { EngineSpan, KvLease } from '../../src/engine/engine.ts'
import { ChoraleError } from '../../src/errors.ts'
import { createLogger } from '../../src/log.ts'
import { blockWeights } from '../../src/model/block-part.ts'
import type { Model } from '../../src/model/model.ts'
import { type ChosenEngine, tabEngines } from './choose-engine.ts'
import { fetchBlobs } from './fetch-part.ts'
import { ownTensor, toWire } from './messages.ts'
import { createWorkerPieces } from './piece-link.ts'
import type { SpanCommand, SpanReport } from './span-messages.ts'

/** The worker of a page that serves: weights, KV cache and engine of its span. */

const post = (report: SpanReport, transfer: Transferable[] = []): void =>
  (self as unknown as DedicatedWorkerGlobalScope).postMessage(report, transfer)

const log = createLogger('warn', ({ scope, message }) => post({ type: 'log', text: `${scope}: ${message}` }))

const pieces = createWorkerPieces(post)

let span: EngineSpan | undefined
const leases = new Map<number, KvLease>()

async function load(command: Extract<SpanCommand, { type: 'load' }>): Promise<void> {
  const { model: part, blocks, key, first, kvTokens } = command
  const wanted = blocks.map(({ part: block, url }) => ({
    blob: { ...block, name: `block${block.block}` },
    url,
  }))
  const { blobs } = await fetchBlobs(wanted, {
    key,
    first,
    pieces: pieces.fetch,
    onProgress: (loadedBytes, totalBytes, peers) =>
      post({ type: 'progress', loadedBytes, totalBytes, peers }),
  })
  const here = new Map(blocks.map((block, i) => [block.part.block, blobs[i]!]))
  const parts = blocks.map((block) => block.part)
  const model: Model = {
    ...part,
    weights: blockWeights(part, parts, async (block) => {
      const bytes = here.get(block)
      if (bytes === undefined) throw new ChoraleError('not_found', `block ${block} is not here`)
      return bytes
    }),
    tokenizerFiles: async () => undefined,
    close: async () => undefined,
  }
  const start = parts[0]?.block ?? 0
  const { chosen, made } = await loadSpan(model, command.engine, {
    start,
    end: start + parts.length,
    kvTokens,
  })
  span = made
  here.clear()
  post({
    type: 'loaded',
    span: {
      engine: chosen.engine.name,
      engineDescription: chosen.engine.description,
      why: chosen.why,
      weightBytes: made.weightBytes,
      kvBytes: made.kvBytes,
      kvTokens: made.kvTokens,
    },
  })
}

async function loadSpan(
  model: Model,
  wish: Extract<SpanCommand, { type: 'load' }>['engine'],
  options: { start: number; end: number; kvTokens: number },
): Promise<{ chosen: ChosenEngine; made: EngineSpan }> {
  let failed: unknown
  for await (const chosen of tabEngines(log, wish)) {
    try {
      return { chosen, made: await chosen.engine.loadSpan(model, options) }
    } catch (error) {
      failed = error
      await chosen.engine.close()
    }
  }
  throw failed
}

async function step({ call, entries }: Extract<SpanCommand, { type: 'step' }>): Promise<void> {
  const inputs = entries.map(({ lease: number, hidden }) => {
    const lease = leases.get(number)
    if (lease === undefined) throw new ChoraleError('internal', 'a step names a lease that is gone')
    return { lease, hidden }
  })
  const outputs = ((await span?.step(inputs)) ?? []).map(ownTensor)
  const memory = outputs.map(({ data }) => data.buffer as ArrayBuffer)
  post({ type: 'stepped', call, outputs }, memory)
}

self.addEventListener('message', ({ data }: MessageEvent<SpanCommand>) => {
  switch (data.type) {
    case 'load':
      load(data).catch((error: unknown) => post({ type: 'loadFailed', error: toWire(error) }))
      return
    case 'pieceList':
    case 'piece':
    case 'piecesDone':
      pieces.receive(data)
      return
    case 'lease':
      // The page counts the same pages: what it granted there is room for here.
      if (span !== undefined) leases.set(data.lease, span.lease(data.maxTokens))
      return
    case 'rollback':
      leases.get(data.lease)?.rollback(data.position)
      return
    case 'release':
      leases.get(data.lease)?.release()
      leases.delete(data.lease)
      return
    case 'step':
      step(data).catch((error: unknown) =>
        post({ type: 'stepFailed', call: data.call, error: toWire(error) }),
      )
  }
})
