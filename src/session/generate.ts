import type { EngineHead } from '../engine/engine.ts'
import { ChoraleError, errorCode } from '../errors.ts'
import type { Embedding } from '../model/embedding.ts'
import type { Model } from '../model/model.ts'
import { createSampler } from '../sampling/sampler.ts'
import type { Tensor } from '../tensor/tensor.ts'
import { createDetokenizer } from '../tokenizer/detokenize-stream.ts'
import type { Tokenizer } from '../tokenizer/tokenizer.ts'
import { cancelled } from './check-step.ts'
import { choices } from './choices.ts'
import { createDraftLaps, type DraftLaps } from './draft-laps.ts'
import type { DraftModel } from './draft-model.ts'
import { type BatchedHead, batchHead } from './head-batch.ts'
import type { GenerateDone, GenerateEvent, GenerateRequest, LanguageModel } from './language-model.ts'
import { raceSignal } from './race-signal.ts'
import type { Failover, SpanRunner, SpanSession } from './span-runner.ts'

/** The client's part of a model, and what runs the blocks. */
export interface LanguageModelParts {
  readonly model: Model
  readonly tokenizer: Tokenizer
  readonly embedding: Embedding
  readonly head: EngineHead
  /** Runs all blocks of the model. */
  readonly runner: SpanRunner
  /** Default and maximum: what the model was made for. */
  readonly contextLength?: number
  /** KV room leased for an answer whose length the caller leaves open (default 1,024 tokens). */
  readonly answerTokens?: number
  /** Guess tokens and have several checked in one lap, unless a request says otherwise (default false). */
  readonly drafts?: boolean
  /** Guesses too, where drafts are on. Closed before the rest. */
  readonly draft?: DraftModel
  readonly readiness?: LanguageModel['readiness']
  /** Frees what `createLanguageModel` was given. */
  readonly close?: () => Promise<void>
  /** Milliseconds, for timings. */
  readonly clock?: () => number
}

/** Leasing the whole context for every open-ended answer would let a few chats fill every server. */
const ANSWER_TOKENS = 1_024
/** An open-ended answer is offered less room while servers are full, but not less than this. */
const LEAST_ANSWER_TOKENS = 64

/** A model to ask, from its parts: tokens in, tokens out, wherever the blocks run. */
export function createLanguageModel(parts: LanguageModelParts): LanguageModel {
  const { model, tokenizer } = parts
  const contextLength = Math.min(parts.contextLength ?? model.spec.contextLength, model.spec.contextLength)
  const batched = batchHead(parts.head)
  return {
    model,
    tokenizer,
    contextLength,
    generate: (request) => generate({ ...parts, contextLength, batched }, request),
    readiness: parts.readiness ?? (async () => ({ ready: true, missing: [] })),
    close: async () => {
      await parts.draft?.close()
      await parts.close?.()
    },
  }
}

interface Generation extends LanguageModelParts {
  readonly contextLength: number
  readonly batched: BatchedHead
}

async function* generate(
  parts: Generation,
  request: GenerateRequest,
): AsyncGenerator<GenerateEvent, void, void> {
  const { tokenizer, clock = () => performance.now() } = parts
  const { promptIds, signal } = request
  const room = answerRoom(parts, request)
  const sampler = createSampler(request.sampling ?? {}, promptIds)
  const lastId = promptIds.at(-1)
  const text = createDetokenizer(tokenizer, {
    // After a special token an answer begins anew; after text it goes on, its leading space included.
    continues: lastId !== undefined && !tokenizer.isSpecial(lastId),
    ...(request.stop && { stop: request.stop }),
  })
  const eos = new Set([...tokenizer.eosTokenIds, ...parts.model.spec.eosTokenIds])
  let drafts: DraftLaps | undefined
  let hidden = parts.embedding.gather(promptIds)

  const failovers: Failover[] = []
  let reported = 0
  const startedAt = clock()
  let prefilledAt: number | undefined
  /** After the last token; what closing the session takes is nobody's decoding. */
  let endedAt = startedAt
  let completionTokens = 0
  let cachedTokens: number | undefined
  let finishReason: GenerateDone['finishReason'] = 'length'
  let opened: { session: SpanSession; answerTokens: number } | undefined
  try {
    opened = await openSession(parts, hidden, room, signal, (failover) => failovers.push(failover))
    const { session, answerTokens } = opened
    drafts = createDraftLaps({
      wish: request.drafts ?? parts.drafts ?? false,
      promptIds,
      sampling: request.sampling ?? {},
      maxTokens: promptIds.length + answerTokens,
      ends: request.ignoreEos ? new Set() : eos,
      model: parts.draft,
      clock,
    })
    /** Guessed tokens whose rows follow the last known one's in `hidden`. */
    let guesses: readonly number[] = []
    answer: while (completionTokens < answerTokens) {
      const lapStart = clock()
      const position = promptIds.length + completionTokens
      const want = guesses.length > 0 ? 'all' : 'last'
      const step = session.step(hidden, { want, ...(signal && { signal }) })
      if (prefilledAt !== undefined) drafts?.started()
      const output = await raceSignal(step, signal)
      const next = await raceSignal(choices(parts.batched, sampler, output), signal)
      for (; reported < failovers.length; reported++) yield failoverEvent(failovers[reported]!)
      if (signal?.aborted) throw cancelled()
      const lapMs = clock() - lapStart
      const isPrefill = prefilledAt === undefined
      if (isPrefill) cachedTokens = session.reusedTokens
      prefilledAt ??= clock()

      let last = -1
      let right = 0
      for (let row = 0; row <= guesses.length; row++) {
        const token = next(row, position + row)
        completionTokens++
        last = token.id
        drafts?.append(last)
        const isEnd = eos.has(last) && !request.ignoreEos
        yield { type: 'token', token, text: isEnd ? '' : text.push(last) }
        if (isEnd || text.stopped !== undefined) {
          finishReason = 'stop'
          break answer
        }
        if (last !== guesses[row]) break
        right++
      }
      if (right < guesses.length) await session.rollback(position + right)
      if (isPrefill) drafts?.begin(lapMs, promptIds.length - (cachedTokens ?? 0))
      else drafts?.ended(lapMs, right)
      // The lap's own token needs no guess, and what is beyond the answer's end none either.
      guesses = (await drafts?.next(answerTokens - completionTokens - 1)) ?? []
      hidden = parts.embedding.gather([last, ...guesses])
    }
  } catch (error) {
    if (errorCode(error) !== 'cancelled' || !signal?.aborted) throw error
    finishReason = 'cancelled'
  } finally {
    endedAt = clock()
    // A step that was cancelled may still be running; the session's room is free once this returns.
    await Promise.all([opened?.session.close(), drafts?.close()])
  }
  yield {
    type: 'done',
    text: text.flush(),
    finishReason,
    usage: {
      promptTokens: promptIds.length,
      completionTokens,
      ...(cachedTokens !== undefined && { cachedTokens }),
    },
    timings: {
      prefillMs: (prefilledAt ?? endedAt) - startedAt,
      decodeMs: endedAt - (prefilledAt ?? endedAt),
      firstTokenMs: (prefilledAt ?? endedAt) - startedAt,
    },
    route: opened?.session.route ?? [],
    failovers: failovers.length,
    ...(drafts && { drafts: drafts.stats }),
  }
}

function failoverEvent({ span, from, reason, recoveryMs }: Failover): GenerateEvent {
  return { type: 'failover', span, from, reason, recoveryMs }
}

interface AnswerRoom {
  /** Tokens of answer to lease at first. */
  readonly tokens: number
  /** The caller did not say how long the answer may be: it may be offered less. */
  readonly negotiable: boolean
}

/** @throws `bad_request`, `context_length`. */
function answerRoom(
  { contextLength, model, answerTokens = ANSWER_TOKENS }: Generation,
  request: GenerateRequest,
): AnswerRoom {
  const { promptIds, maxTokens } = request
  if (promptIds.length === 0)
    throw new ChoraleError('bad_request', 'the prompt is empty; give at least one token')
  if (maxTokens !== undefined && (!Number.isSafeInteger(maxTokens) || maxTokens < 1)) {
    throw new ChoraleError('bad_request', `maxTokens is ${maxTokens}; it must be a whole number from 1`)
  }
  const left = contextLength - promptIds.length
  if (left < 1) {
    throw new ChoraleError(
      'context_length',
      `the prompt's ${promptIds.length} tokens leave no room for an answer in ${model.name}'s context of ${contextLength}; shorten it`,
    )
  }
  return maxTokens === undefined
    ? { tokens: Math.min(left, answerTokens), negotiable: true }
    : { tokens: Math.min(left, maxTokens), negotiable: false }
}

/** Opens a session with room for prompt and answer; halves an open-ended answer's room while servers say they are full. */
async function openSession(
  { runner }: Generation,
  prompt: Tensor,
  room: AnswerRoom,
  signal: AbortSignal | undefined,
  onFailover: (failover: Failover) => void,
): Promise<{ session: SpanSession; answerTokens: number }> {
  const promptTokens = prompt.shape[0]
  for (let answerTokens = room.tokens; ; answerTokens = Math.ceil(answerTokens / 2)) {
    try {
      // The last token is never fed back, so it needs no room.
      const maxTokens = promptTokens + answerTokens - 1
      const session = await runner.open({
        maxTokens,
        promptTokens,
        prompt,
        onFailover,
        ...(signal && { signal }),
      })
      return { session, answerTokens }
    } catch (error) {
      const smaller = room.negotiable && answerTokens > LEAST_ANSWER_TOKENS
      if (errorCode(error) !== 'capacity' || !smaller) throw error
    }
  }
}
