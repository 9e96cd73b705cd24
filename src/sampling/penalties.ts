import { ChoraleError } from '../errors.ts'
import type { SamplingOptions } from './options.ts'

/** What the penalties look at: the tokens of prompt and answer so far, by absolute position. */
export interface TokenHistory {
  /** Tokens of prompt and answer; the next token's position. */
  readonly length: number
  append(id: number): void
  /** Forgets tokens from `position` on. @throws `bad_request` inside the prompt or beyond the end. */
  truncate(position: number): void
  /** Distinct tokens of prompt and answer, each with its count in the answer. */
  counts(): Iterable<readonly [id: number, inAnswer: number]>
}

interface Count {
  all: number
  answer: number
}

/** A history that starts with a prompt, which never leaves it. */
export function createHistory(promptIds: readonly number[]): TokenHistory {
  const counts = new Map<number, Count>()
  const answer: number[] = []
  const promptLength = promptIds.length
  const countOf = (id: number): Count => {
    let count = counts.get(id)
    if (count === undefined) {
      count = { all: 0, answer: 0 }
      counts.set(id, count)
    }
    return count
  }
  for (const id of promptIds) countOf(id).all++
  return {
    get length() {
      return promptLength + answer.length
    },
    append(id) {
      const count = countOf(id)
      count.all++
      count.answer++
      answer.push(id)
    },
    truncate(position) {
      const end = promptLength + answer.length
      if (!Number.isInteger(position) || position < promptLength || position > end) {
        throw new ChoraleError(
          'bad_request',
          `can't truncate the history to position ${position}: the answer spans ${promptLength}..${end}`,
        )
      }
      while (promptLength + answer.length > position) {
        const id = answer.pop() as number
        const count = countOf(id)
        count.all--
        count.answer--
        if (count.all === 0) counts.delete(id)
      }
    },
    *counts() {
      for (const [id, count] of counts) yield [id, count.answer] as const
    },
  }
}

/** Whether these options change logits before the filters. */
export function changesLogits(options: SamplingOptions): boolean {
  return (
    (options.repetitionPenalty ?? 1) !== 1 ||
    (options.presencePenalty ?? 0) !== 0 ||
    (options.frequencyPenalty ?? 0) !== 0 ||
    (options.logitBias?.size ?? 0) > 0
  )
}

/**
 * Changes `logits` in place: repetition penalty (prompt and answer), then presence and frequency (answer), then
 * bias. Tokens outside the vocabulary are passed over. @throws `bad_request` when a biased id is outside.
 */
export function applyPenalties(logits: Float64Array, options: SamplingOptions, history: TokenHistory): void {
  const repetition = options.repetitionPenalty ?? 1
  const presence = options.presencePenalty ?? 0
  const frequency = options.frequencyPenalty ?? 0
  if (repetition !== 1 || presence !== 0 || frequency !== 0) {
    for (const [id, inAnswer] of history.counts()) {
      let logit = logits[id]
      if (logit === undefined) continue
      if (repetition !== 1) logit = logit > 0 ? logit / repetition : logit * repetition
      if (inAnswer > 0) logit = logit - presence - frequency * inAnswer
      logits[id] = logit
    }
  }
  for (const [id, bias] of options.logitBias ?? []) {
    const logit = logits[id]
    if (logit === undefined) {
      throw new ChoraleError(
        'bad_request',
        `logitBias names token ${id}, the vocabulary ends at ${logits.length - 1}`,
        {
          field: 'logitBias',
        },
      )
    }
    logits[id] = logit + bias
  }
}
