import type { Engine, EngineHead, LoadOptions } from '../engine/engine.ts'
import { ChoraleError } from '../errors.ts'
import type { Logger } from '../log.ts'
import type { Embedding } from '../model/embedding.ts'
import { loadEmbedding } from '../model/embedding.ts'
import type { Model } from '../model/model.ts'
import type { Tokenizer } from '../tokenizer/tokenizer.ts'
import type { ChainOptions } from './chain-options.ts'
import { createChain } from './chain-span.ts'
import { type DraftModel, loadDraftModel } from './draft-model.ts'
import { createLanguageModel } from './generate.ts'
import type { LanguageModel } from './language-model.ts'
import { createLocalSpan } from './local-span.ts'
import type { SpanRunner } from './span-runner.ts'

/** Where the blocks run. */
export type Backend =
  /** In this process: all blocks on the client's own engine. */
  | {
      readonly kind: 'local'
      /** KV room for all sessions together, in tokens (default: one full context, at most 8,192). */
      readonly kvTokens?: number
      /** Whether prompts that begin alike share what was computed for the beginning (default true). */
      readonly prefixCache?: boolean
    }
  /** On servers found in a directory. */
  | ({ readonly kind: 'chain' } & Omit<ChainOptions, 'model'>)

export interface ClientOptions {
  readonly model: Model
  readonly tokenizer: Tokenizer
  /** Computes the head, and the blocks of a local backend. Stays the caller's to close, as the model does. */
  readonly engine: Engine
  readonly backend: Backend
  readonly contextLength?: number
  readonly answerTokens?: number
  /** Guess tokens and have several checked in one lap (default: with a chain, whose laps are long, or a draft). */
  readonly drafts?: boolean
  /** A small model with the same tokenizer that guesses too, on `engine`. Stays the caller's to close. */
  readonly draft?: Model
  readonly signal?: AbortSignal
  readonly onProgress?: LoadOptions['onProgress']
  readonly log?: Logger
}

const LOCAL_KV_TOKENS = 8_192

/**
 * Loads the client's part of a model (embedding, final norm, head; with a local backend the blocks too) and gives a
 * model to ask. `close()` frees all of it.
 * @throws `bad_file`, `not_found`, `engine`, `capacity`, `cancelled`; `bad_config` for a draft with another tokenizer.
 */
export async function createClient(options: ClientOptions): Promise<LanguageModel> {
  const { model, engine, backend } = options
  const loading: LoadOptions = {
    ...(options.signal && { signal: options.signal }),
    ...(options.onProgress && { onProgress: options.onProgress }),
  }
  if (options.signal?.aborted) throw new ChoraleError('cancelled', 'loading was cancelled')
  /** What was loaded, to be freed last to first. */
  const loaded: { close(): Promise<void> }[] = []
  const close = async () => {
    for (const one of loaded.splice(0).reverse()) await one.close()
  }
  try {
    const head: EngineHead = await engine.loadHead(model, loading)
    loaded.push(head)
    const embedding: Embedding = await loadEmbedding(model, options.signal ? { signal: options.signal } : {})
    const { runner, readiness } = await createRunner(options, backend, loading)
    loaded.push(runner)
    const draft = await loadDraft(options, loading)
    return createLanguageModel({
      model,
      tokenizer: options.tokenizer,
      embedding,
      head,
      runner,
      drafts: options.drafts ?? (backend.kind === 'chain' || draft !== undefined),
      ...(draft && { draft }),
      ...(options.contextLength !== undefined && { contextLength: options.contextLength }),
      ...(options.answerTokens !== undefined && { answerTokens: options.answerTokens }),
      ...(readiness && { readiness }),
      close,
    })
  } catch (error) {
    await close()
    throw error
  }
}

async function loadDraft(
  { draft, model, engine, log }: ClientOptions,
  loading: LoadOptions,
): Promise<DraftModel | undefined> {
  if (draft === undefined) return undefined
  return await loadDraftModel({ ...loading, model: draft, target: model, engine, ...(log && { log }) })
}

async function createRunner(
  { model, engine, contextLength }: ClientOptions,
  backend: Backend,
  loading: LoadOptions,
): Promise<{ runner: SpanRunner; readiness?: LanguageModel['readiness'] }> {
  const { blockCount, hiddenSize } = model.spec
  if (backend.kind === 'chain') {
    const record = { modelId: model.id, name: model.name, blockCount, hiddenSize }
    const chain = createChain({ ...backend, model: record })
    return { runner: chain, readiness: () => chain.readiness() }
  }
  const context = Math.min(contextLength ?? model.spec.contextLength, model.spec.contextLength)
  const kvTokens = backend.kvTokens ?? Math.min(context, LOCAL_KV_TOKENS)
  const span = await engine.loadSpan(model, { ...loading, start: 0, end: blockCount, kvTokens })
  const runner = createLocalSpan(span, {
    modelId: model.id,
    hiddenSize,
    engineName: engine.name,
    ...(backend.prefixCache === false && { prefixCacheBytes: 0 }),
  })
  return { runner }
}
