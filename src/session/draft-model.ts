import type { Engine, LoadOptions } from '../engine/engine.ts'
import { errorMessage } from '../errors.ts'
import type { Logger } from '../log.ts'
import { type Embedding, loadEmbedding } from '../model/embedding.ts'
import type { Model } from '../model/model.ts'
import { createDraftText, type DraftCosts, type DraftedAnswer, MODEL_KIND } from './draft-text.ts'
import { assertSameTokenizer } from './draft-tokenizer.ts'
import { fadeKindRecord, type KindRecord, newKindRecord } from './draft-window.ts'
import type { Drafter } from './drafter.ts'
import { type BatchedHead, batchHead } from './head-batch.ts'
import { createLocalSpan } from './local-span.ts'
import type { SpanRunner } from './span-runner.ts'

/** A small model that guesses what a large one will say. It runs whole on the client's own machine. */
export interface DraftModel {
  readonly name: string
  /** Bytes of its weights and KV cache in memory. */
  readonly bytes: number
  /** How often its guesses were right so far, over all answers: a poor draft is left alone in the next one. */
  readonly memory: ReadonlyMap<number, KindRecord>
  /** Its guesses for one answer. */
  follow(answer: DraftedAnswer): Drafter
  /** Answers that it follows must have ended. */
  close(): Promise<void>
}

/** A draft model in memory, and what its guesses are for. */
export interface DraftModelParts {
  readonly embedding: Embedding
  readonly head: BatchedHead
  /** Runs all blocks, here. */
  readonly runner: SpanRunner
  readonly contextLength: number
  /** Of the model it guesses for: tokens from there on are unknown to it. */
  readonly vocabSize: number
  /** Milliseconds. */
  readonly clock: () => number
  readonly log?: Logger
}

export interface DraftModelOptions extends LoadOptions {
  /** The draft; stays the caller's to close. */
  readonly model: Model
  /** The model it guesses for. */
  readonly target: Model
  /** Computes the draft; may be the one that computes the target's head. */
  readonly engine: Engine
  /** KV room for all answers together, in tokens (default: four full contexts, at most 4,096). */
  readonly kvTokens?: number
  readonly clock?: () => number
  readonly log?: Logger
}

/** Room for a long chat or a few short ones; an answer that finds none goes without a draft. */
const KV_TOKENS = 4_096
const FULL_CONTEXTS = 4
/** Its outputs are needed to be read on only. */
const PREFIX_CACHE_BYTES = 16 * 2 ** 20
/** Rows that one call of the engine computes: the thread that computes is the network's too. */
const MAX_ROWS = 32
/** Tokens of the trial that says what guesses cost here. */
const TRIAL_ROWS = 16
const TRIAL_TOKENS = 4

/**
 * Loads a draft model and measures what its guesses cost on this machine.
 * @throws `bad_config` when it has another tokenizer than the target, naming what differs; `not_supported` when one
 * of them holds none, `bad_file`, `not_found`, `engine`, `capacity`, `cancelled`.
 */
export async function loadDraftModel(options: DraftModelOptions): Promise<DraftModel> {
  const { model, target, engine, signal, onProgress, clock = () => performance.now(), log } = options
  const loading = { ...(signal && { signal }), ...(onProgress && { onProgress }) }
  await assertSameTokenizer(target, model)
  const { blockCount, contextLength, hiddenSize } = model.spec
  const kvTokens = Math.min(options.kvTokens ?? KV_TOKENS, FULL_CONTEXTS * contextLength)
  const embedding = await loadEmbedding(model, signal ? { signal } : {})
  const span = await engine.loadSpan(model, { ...loading, start: 0, end: blockCount, kvTokens })
  const runner = createLocalSpan(span, {
    modelId: model.id,
    hiddenSize,
    engineName: engine.name,
    maxRows: MAX_ROWS,
    prefixCacheBytes: PREFIX_CACHE_BYTES,
  })
  try {
    const head = await engine.loadHead(model, signal ? { signal } : {})
    const close = async () => {
      await runner.close()
      await head.close()
    }
    const parts: DraftModelParts = {
      embedding,
      head: batchHead(head),
      runner,
      contextLength,
      vocabSize: target.spec.vocabSize,
      clock,
      ...(log && { log: log.child('draft') }),
    }
    try {
      const costs = await measure(parts)
      log?.debug('draft model loaded', { model: model.id, eachMs: costs.eachMs, rowMs: costs.rowMs })
      const record = newKindRecord(MODEL_KIND)
      return {
        name: model.name,
        bytes: embedding.weightBytes + span.weightBytes + head.weightBytes + span.kvBytes,
        memory: new Map([[MODEL_KIND, record]]),
        follow: (answer) => {
          fadeKindRecord(record, MODEL_KIND)
          return createDraftText(parts, costs, answer)
        },
        close,
      }
    } catch (error) {
      await head.close()
      throw error
    }
  } catch (error) {
    log?.warn('the draft model does not load', { model: model.id, reason: errorMessage(error) })
    await runner.close()
    throw error
  }
}

/** Reads and guesses a few tokens; the first of each pays for what engines prepare once. */
async function measure({ runner, embedding, head, clock }: DraftModelParts): Promise<DraftCosts> {
  const session = await runner.open({ maxTokens: 2 * TRIAL_ROWS + TRIAL_TOKENS })
  try {
    const ids = new Uint32Array(TRIAL_ROWS)
    const timed = async (count: number, guess: boolean) => {
      const startedAt = clock()
      const hidden = await session.step(embedding.gather(ids.subarray(0, count)), {
        want: guess ? 'last' : 'none',
      })
      if (guess) await head.logits(hidden)
      return (clock() - startedAt) / count
    }
    await timed(TRIAL_ROWS, false)
    const rowMs = await timed(TRIAL_ROWS, false)
    await timed(1, true)
    let eachMs = Number.POSITIVE_INFINITY
    for (let i = 1; i < TRIAL_TOKENS; i++) eachMs = Math.min(eachMs, await timed(1, true))
    return { eachMs, rowMs }
  } finally {
    await session.close()
  }
}
