import { errorCode } from '../errors.ts'
import { blockRanges } from '../routing/no-chain.ts'
import type { LanguageModel } from '../session/language-model.ts'
import type { NetworkModel } from '../session/network-models.ts'
import type { ApiLimits } from './limits.ts'
import { ApiError, invalidRequest } from './errors.ts'
import { readinessOf } from './health.ts'

/** Header of a request that would rather wait for missing blocks than be told of them: seconds. */
export const WAIT_HEADER = 'x-chorale-wait'

/** What answers know of models that are short of blocks. */
export interface BlockHost {
  readonly models: () => readonly LanguageModel[]
  /** Every model of the network; undefined without one. */
  readonly networkModels?: () => Promise<readonly NetworkModel[]>
  readonly limits: ApiLimits
  readonly now: () => number
}

/** How often it is looked again, and when a caller should come back: servers announce themselves about as often. */
const LOOK_MS = 1_000
const RETRY_AFTER_SECONDS = 10

/** Milliseconds that a caller asks to wait for missing blocks; 0 without the header. @throws `ApiError` 400. */
export function waitOf(headers: Headers, limits: Pick<ApiLimits, 'requestMs'>): number {
  const text = headers.get(WAIT_HEADER)
  if (text === null) return 0
  const most = Math.floor(limits.requestMs / 1000)
  const seconds = /^\d{1,6}$/.test(text) ? Number(text) : Number.NaN
  if (!(seconds <= most)) {
    throw invalidRequest(
      WAIT_HEADER,
      `${WAIT_HEADER}: "${text.slice(0, 40)}" must be whole seconds from 0 to ${most}`,
    )
  }
  return seconds * 1000
}

/** Requests that wait for blocks now, by model: each keeps a connection. */
const waiters = new WeakMap<LanguageModel, number>()

/**
 * Waits until every block of a model has a server, at most `waitMs`, and not at all when too many wait already: then
 * the answer is tried and fails by itself. @throws the signal's reason.
 */
export async function waitForBlocks(
  host: BlockHost,
  model: LanguageModel,
  waitMs: number,
  signal: AbortSignal,
): Promise<void> {
  const waiting = waiters.get(model) ?? 0
  if (waitMs === 0 || waiting >= host.limits.waiting) return
  waiters.set(model, waiting + 1)
  try {
    const deadline = host.now() + waitMs
    while (host.now() < deadline) {
      const { ready } = await readinessOf(host, model).catch(() => ({ ready: false }))
      if (ready) return
      await pause(Math.min(LOOK_MS, deadline - host.now()), signal)
    }
  } finally {
    waiters.set(model, (waiters.get(model) ?? 1) - 1)
  }
}

/** The error of an answer that found no chain, with the blocks that have no server and the models that are complete. */
export async function explainMissing(
  host: BlockHost,
  model: LanguageModel,
  error: unknown,
): Promise<unknown> {
  if (errorCode(error) !== 'no_chain') return error
  const missing = await readinessOf(host, model)
    .then((readiness) => readiness.missing)
    .catch(() => [])
  const complete = await completeModels(host, model)
  const what =
    missing.length === 0
      ? (error as Error).message
      : `no server holds blocks ${blockRanges(missing)} of ${model.model.id}; start one with: chorale serve ${model.model.name} --blocks ${missing[0]!.start}:${missing[0]!.end}`
  const others = complete.length === 0 ? '' : `; complete here: ${complete.join(', ')}`
  return new ApiError(503, 'unavailable_error', `${what}; or wait: ${WAIT_HEADER}: SECONDS${others}`, {
    code: 'no_chain',
    retryAfterSeconds: RETRY_AFTER_SECONDS,
    extra: {
      missing_blocks: missing.map(({ start, end }) => [start, end]),
      complete_models: complete,
    },
  })
}

/** Ids of the other models that this gateway answers for and that have all blocks. */
async function completeModels(host: BlockHost, model: LanguageModel): Promise<readonly string[]> {
  const others = host.models().filter((one) => one !== model)
  const states = await Promise.all(
    others.map((one) => readinessOf(host, one).catch(() => ({ ready: false }))),
  )
  return others.flatMap((one, i) => (states[i]?.ready === true ? [one.model.id] : []))
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted()
  await new Promise<void>((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer)
      reject(signal.reason)
    }
    const timer = setTimeout(
      () => {
        signal.removeEventListener('abort', stop)
        resolve()
      },
      Math.max(0, ms),
    )
    signal.addEventListener('abort', stop, { once: true })
  })
}
