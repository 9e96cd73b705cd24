import type { Engine, EngineHead } from '../engine/engine.ts'
import { ChoraleError } from '../errors.ts'
import type { Embedding } from '../model/embedding.ts'
import type { Model } from '../model/model.ts'
import { argmax } from '../sampling/filters.ts'
import { rows, tensor, type Tensor } from '../tensor/tensor.ts'
import { createLocalSpan } from './local-span.ts'
import type { Span, SpanRunner, SpanSession } from './span-runner.ts'

/** The client's part of a model: what turns ids into hidden states and hidden states into logits. */
export interface ClientParts {
  readonly embedding: Embedding
  readonly head: EngineHead
}

/** Activations of one prompt and its greedy continuation through a sequence of spans. */
export interface Trace {
  /** What leaves each span, by the block index it leaves at; 0 holds the embeddings. [tokens, hiddenSize] */
  readonly hidden: ReadonlyMap<number, Tensor>
  /** After the final norm. [tokens, hiddenSize] */
  readonly final: Tensor
  /** [tokens, vocabSize] */
  readonly logits: Tensor
  /** Greedy continuation with a KV cache. */
  readonly decodeIds: readonly number[]
  /** The logits each of them was chosen from. [decode, vocabSize] */
  readonly decodeLogits: Tensor
}

/** Loads each span on `engine` as its own runner. Close the runners after use. */
export async function loadSpans(
  engine: Engine,
  model: Model,
  spans: readonly Span[],
  kvTokens: number,
): Promise<SpanRunner[]> {
  const runners: SpanRunner[] = []
  for (const { start, end } of spans) {
    const span = await engine.loadSpan(model, { start, end, kvTokens })
    runners.push(
      createLocalSpan(span, {
        modelId: model.id,
        hiddenSize: model.spec.hiddenSize,
        engineName: engine.name,
        // A trace shows what the engine computes.
        prefixCacheBytes: 0,
      }),
    )
  }
  return runners
}

/**
 * Runs `ids` and then `decode` greedy steps through the runners in order.
 * @throws `bad_request` for an empty prompt or an id outside the vocabulary.
 */
export async function traceThrough(
  client: ClientParts,
  runners: readonly SpanRunner[],
  ids: readonly number[],
  decode: number,
): Promise<Trace> {
  if (ids.length === 0)
    throw new ChoraleError('bad_request', 'a trace needs at least one token id', { field: 'ids' })
  const sessions: SpanSession[] = []
  try {
    for (const runner of runners)
      sessions.push(await runner.open({ maxTokens: ids.length + Math.max(decode, 1) }))
    const hidden = new Map<number, Tensor>()
    let states = client.embedding.gather(ids)
    hidden.set(0, states)
    for (const [index, session] of sessions.entries()) {
      states = await session.step(states)
      hidden.set((runners[index] as SpanRunner).span.end, states)
    }
    const logits = await client.head.logits(states)
    const final = await client.head.finalNorm(states)
    return { hidden, final, logits, ...(await decodeGreedy(client, sessions, logits, decode)) }
  } finally {
    await Promise.all(sessions.map((session) => session.close()))
  }
}

async function decodeGreedy(
  client: ClientParts,
  sessions: readonly SpanSession[],
  promptLogits: Tensor,
  decode: number,
): Promise<Pick<Trace, 'decodeIds' | 'decodeLogits'>> {
  const [tokens, vocabSize] = promptLogits.shape
  const decodeIds: number[] = []
  const decodeLogits = tensor(decode, vocabSize, new Float32Array(decode * vocabSize))
  let row = rows(promptLogits, tokens - 1, tokens).data
  for (let step = 0; step < decode; step++) {
    decodeLogits.data.set(row, step * vocabSize)
    const id = argmax(row)
    decodeIds.push(id)
    if (step + 1 === decode) break
    let states = client.embedding.gather([id])
    for (const session of sessions) states = await session.step(states)
    row = (await client.head.logits(states)).data
  }
  return { decodeIds, decodeLogits }
}

/**
 * Hidden states between the blocks inside `span`, computed block by block on the same engine: a span shows
 * only what leaves it. Key i holds what leaves block i - 1; the span's own ends are not included.
 */
export async function traceInside(
  engine: Engine,
  model: Model,
  span: Span,
  input: Tensor,
): Promise<Map<number, Tensor>> {
  const hidden = new Map<number, Tensor>()
  let states = input
  for (let block = span.start; block + 1 < span.end; block++) {
    const [runner] = await loadSpans(engine, model, [{ start: block, end: block + 1 }], input.shape[0])
    if (runner === undefined) break
    try {
      const session = await runner.open({ maxTokens: input.shape[0] })
      states = await session.step(states)
      await session.close()
    } finally {
      await runner.close()
    }
    hidden.set(block + 1, states)
  }
  return hidden
}

/** `blockCount` blocks cut into `parts` spans as equal as can be, the longer ones first. */
export function splitEvenly(blockCount: number, parts: number): Span[] {
  const spans: Span[] = []
  let start = 0
  for (let part = 0; part < parts; part++) {
    const length = Math.ceil((blockCount - start) / (parts - part))
    if (length === 0) break
    spans.push({ start, end: start + length })
    start += length
  }
  return spans
}

/** Reads `0:2,2:5`. @throws `bad_config` unless the spans cover all blocks in order without gap or overlap. */
export function parseSplit(text: string, blockCount: number): Span[] {
  const spans = text.split(',').map((part) => {
    const match = /^(\d{1,6}):(\d{1,6})$/.exec(part.trim())
    if (match === null) throw splitError(text, blockCount, `${JSON.stringify(part)} is not START:END`)
    return { start: Number(match[1]), end: Number(match[2]) }
  })
  let expected = 0
  for (const { start, end } of spans) {
    if (start !== expected) throw splitError(text, blockCount, `${start}:${end} should start at ${expected}`)
    if (end <= start) throw splitError(text, blockCount, `${start}:${end} is empty`)
    expected = end
  }
  if (expected !== blockCount) throw splitError(text, blockCount, `it ends at ${expected}`)
  return spans
}

function splitError(text: string, blockCount: number, reason: string): ChoraleError {
  return new ChoraleError(
    'bad_config',
    `the split ${text} does not cover blocks 0:${blockCount} in order: ${reason}`,
    {
      field: 'blocks',
    },
  )
}
