import { ChoraleError } from '../errors.ts'
import { rows } from '../tensor/tensor.ts'
import type { SpanRunner } from './span-runner.ts'
import type { ClientParts } from './trace.ts'

/** Rows of logits held at once: 32 rows of a vocabulary of 128 Ki are 16 MiB. */
const LOGIT_ROWS = 32

/** How well a model foretells a text. */
export interface TextFit {
  /** Tokens foretold: all but the first of each window. */
  readonly tokens: number
  /** e^(mean negative log-likelihood of those tokens). */
  readonly perplexity: number
}

/**
 * Perplexity of `ids`, teacher-forced: cut into windows of `window` tokens that know nothing of each other, each token
 * judged from those before it in its window. Log-likelihoods are summed in float64.
 * @param runner all blocks of the model. @throws `bad_request` for fewer than two ids or a window shorter than 2.
 */
export async function perplexityOf(
  client: ClientParts,
  runner: SpanRunner,
  ids: readonly number[],
  window: number,
): Promise<TextFit> {
  if (ids.length < 2) {
    throw new ChoraleError(
      'bad_request',
      `a text of ${ids.length} tokens has nothing to foretell; give 2 or more`,
    )
  }
  if (!Number.isSafeInteger(window) || window < 2) {
    throw new ChoraleError(
      'bad_request',
      `a window of ${window} tokens has nothing to foretell; use 2 or more`,
    )
  }
  let tokens = 0
  let loss = 0
  for (let start = 0; start < ids.length; start += window) {
    const part = ids.slice(start, start + window)
    if (part.length < 2) break
    const session = await runner.open({ maxTokens: part.length })
    try {
      const hidden = await session.step(client.embedding.gather(part))
      for (let from = 0; from + 1 < part.length; from += LOGIT_ROWS) {
        const to = Math.min(from + LOGIT_ROWS, part.length - 1)
        const logits = await client.head.logits(rows(hidden, from, to))
        for (let row = from; row < to; row++) {
          loss += negativeLogLikelihood(
            rows(logits, row - from, row - from + 1).data,
            part[row + 1] as number,
          )
          tokens++
        }
      }
    } finally {
      await session.close()
    }
  }
  return { tokens, perplexity: Math.exp(loss / tokens) }
}

function negativeLogLikelihood(logits: Float32Array, id: number): number {
  let max = -Infinity
  for (let i = 0; i < logits.length; i++) max = Math.max(max, logits[i] as number)
  let sum = 0
  for (let i = 0; i < logits.length; i++) sum += Math.exp((logits[i] as number) - max)
  return max + Math.log(sum) - (logits[id] as number)
}
