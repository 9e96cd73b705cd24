import { sha256 } from '@noble/hashes/sha2.js'
import { bytesToHex } from '@noble/hashes/utils.js'
import type { Logger } from '../log.ts'
import type { Model } from '../model/model.ts'
import type { LanguageModel } from '../session/language-model.ts'
import { describeError } from './errors.ts'
import type { AnswerHost } from './answer.ts'

/** What every endpoint is given. */
export interface ApiContext extends AnswerHost {
  readonly log: Logger
  readonly version: string
  /** Milliseconds since the epoch when the gateway started: `created` of its models. */
  readonly startedAt: number
  /** Models whose parts pages may fetch though nobody asks them anything here. */
  readonly drafts?: () => readonly Model[]
  /** False: pages take the weights of models asked here from peers; descriptions are given all the same. */
  readonly givesWeights?: boolean
}

/** What a request carries through the middleware. */
export interface ApiEnv {
  Variables: { requestId: string }
}

/** Changes when the same seed may give another text though model and version are the same. */
const SAMPLER_REVISION = 1

/**
 * OpenAI's `system_fingerprint`: equal for answers of the same model files, Chorale version and sampler. Same
 * fingerprint and seed give the same text when the same engines compute the same spans; across engines, floating
 * point may tip a near tie, so there it is best effort.
 */
export function fingerprintOf(model: LanguageModel, version: string): string {
  const text = `${model.model.id}\n${version}\n${SAMPLER_REVISION}`
  return `fp_${bytesToHex(sha256(new TextEncoder().encode(text))).slice(0, 12)}`
}

/** The body of an error inside a stream; bugs are logged. */
export function streamErrorBody(context: ApiContext, requestId: string): (error: unknown) => unknown {
  return (error) => {
    const { body, isBug } = describeError(error, requestId)
    logFailure(context, error, requestId, isBug)
    return body
  }
}

/** Logs what went wrong without a word of the request's text. */
export function logFailure(
  context: Pick<ApiContext, 'log'>,
  error: unknown,
  requestId: string,
  isBug: boolean,
): void {
  if (!isBug) return
  const detail = error instanceof Error ? (error.stack ?? error.message) : String(error)
  context.log.error('request failed', { requestId, error: detail })
}
