import type { SamplingOptions } from '../sampling/options.ts'
import { createSampler } from '../sampling/sampler.ts'
import { choices } from './choices.ts'
import type { Drafter } from './drafter.ts'
import type { DraftModelParts } from './draft-model.ts'
import { nextTurn } from './race-signal.ts'
import type { SpanSession } from './span-runner.ts'

/** The answer that a draft model follows. */
export interface DraftedAnswer {
  readonly promptIds: readonly number[]
  /** Those of the answer: with the same noise a sampled token is guessed as well as a likely one. */
  readonly sampling: SamplingOptions
  /** Tokens of prompt and answer at most. */
  readonly maxTokens: number
  /** Nothing is guessed behind these. */
  readonly ends: ReadonlySet<number>
}

/** What the model's guesses cost here, in milliseconds; measured as they are made. */
export interface DraftCosts {
  /** To guess a token. */
  eachMs: number
  /** To read one of many. */
  rowMs: number
}

/** `Outlook.kind` of a draft model's guesses. */
export const MODEL_KIND = 5
/** Rows read at once: a thread that computes hears the network in between. */
const READ_ROWS = 16
/** Weight of the newest measurement. */
const NEWEST = 0.1

/**
 * A draft model's guesses for one answer. It keeps its own KV cache of the text and of what it guessed; guesses that
 * turn out wrong are rolled back, right ones stay. Without room for another session, or when its engine fails, it
 * has nothing to say; the answer goes on without.
 */
export function createDraftText(parts: DraftModelParts, costs: DraftCosts, answer: DraftedAnswer): Drafter {
  const { runner, embedding, head, clock } = parts
  const { topLogprobs: _unused, ...sampling } = answer.sampling
  const sampler = createSampler(sampling, answer.promptIds)
  const limit = Math.min(parts.contextLength, answer.maxTokens)
  const text = [...answer.promptIds]
  /** What the model thinks comes next; the sampler's history holds them too. */
  const guessed: number[] = []
  /** Leading tokens of text and guesses that are in the KV cache. */
  let read = 0
  let session: SpanSession | undefined
  let goal = 0
  let pumping: Promise<void> | undefined
  let over = false

  const all = () => text.length + guessed.length
  const tokenAt = (index: number) => (index < text.length ? text[index] : guessed[index - text.length])
  const isEnd = () => all() >= limit || answer.ends.has(guessed.at(-1) ?? -1)
  const wantsMore = () => !over && guessed.length < goal && !isEnd()

  /** Reads what is not read yet, at most `READ_ROWS`, and guesses the next token when that was all. */
  async function advance(open: SpanSession): Promise<void> {
    if (open.position !== read) return await open.rollback(read)
    const start = read
    const startedAt = clock()
    const next = Array.from({ length: Math.min(READ_ROWS, all() - start) }, (_, i) => tokenAt(start + i)!)
    const isLast = start + next.length === all()
    const hidden = await open.step(embedding.gather(next), { want: isLast ? 'last' : 'none' })
    // The text may have gone on meanwhile: what was read counts as far as it agrees.
    if (read !== start) return
    const wrong = next.findIndex((id, i) => id !== tokenAt(start + i))
    read = start + (wrong === -1 ? next.length : wrong)
    if (!isLast) measure('rowMs', (clock() - startedAt) / next.length)
    if (!isLast || read !== all()) return
    const choose = await choices(head, sampler, hidden)
    if (read !== all()) return
    guessed.push(choose(0, read).id)
    if (next.length === 1) measure('eachMs', clock() - startedAt)
  }

  function measure(cost: keyof DraftCosts, ms: number): void {
    costs[cost] += NEWEST * (ms - costs[cost])
  }

  async function pump(): Promise<void> {
    try {
      session ??= await runner.open({ maxTokens: limit })
      while (wantsMore()) {
        await advance(session)
        // What came for this thread meanwhile, an answer of the chain perhaps, goes first.
        await nextTurn()
      }
    } catch (error) {
      over = true
      parts.log?.debug('no more guesses for this answer', { error: String(error) })
    }
    pumping = undefined
  }

  function prepare(count: number): void {
    goal = count
    if (wantsMore()) pumping ??= pump()
  }

  return {
    append(id) {
      if (guessed[0] === id) {
        guessed.shift()
        text.push(id)
        return
      }
      guessed.length = 0
      read = Math.min(read, text.length)
      sampler.truncate(text.length)
      sampler.accept(id)
      text.push(id)
    },
    outlook() {
      const most = limit - text.length
      if (over || most < 1) return undefined
      const ready = guessed.length
      const behind = ready > 0 ? 0 : Math.max(0, text.length - read - 1)
      return { kind: MODEL_KIND, most, ready, eachMs: costs.eachMs, firstMs: behind * costs.rowMs }
    },
    async make(count) {
      prepare(count)
      while (wantsMore()) await (pumping ??= pump())
      if (count === 0) await pumping
      const ids = guessed.slice(0, count)
      const unknown = ids.findIndex((id) => id >= parts.vocabSize)
      return unknown === -1 ? ids : ids.slice(0, unknown)
    },
    prepare,
    get busy() {
      return pumping !== undefined
    },
    async close() {
      over = true
      await pumping
      await session?.close()
    },
  }
}
