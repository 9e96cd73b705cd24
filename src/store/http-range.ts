/** One range of a remote file over HTTP: retried, resumed, checked. */

import { ChoraleError } from '../errors.ts'
import type { Logger } from '../log.ts'
import type { ByteRange } from '../byte-source.ts'

export interface HttpOptions {
  readonly fetch: typeof fetch
  readonly log: Logger
  /** Sent as bearer token to the URL's own host only; never logged. */
  readonly token?: string | undefined
  /** Waits this long before the first retry, doubling to 30 times of it. Default 500 ms. */
  readonly retryDelayMs?: number
  /** Gives a connection up after this long without a byte. Default 30 s. */
  readonly idleTimeoutMs?: number
}

/** Tries in a row that may bring nothing before giving up. */
const MAX_FRUITLESS_TRIES = 5
/** A server that ignores Range may send a file of this size again from its start; a larger one is refused. */
const MAX_WHOLE_FILE = 32 * 2 ** 20

/**
 * Fetches bytes [offset, offset + length) of a file of `size` bytes and hands them to `sink` in order.
 * After a failure it goes on where it stopped.
 * @throws `not_found`, `bad_config` (401, 403), `bad_file` (answers with other bytes), `not_supported` (no ranges),
 * `unreachable` (naming the host) after the tries are used up.
 */
export async function fetchRange(
  url: string,
  range: ByteRange & { readonly size: number },
  sink: (bytes: Uint8Array) => Promise<void>,
  options: HttpOptions,
  signal?: AbortSignal,
): Promise<void> {
  const end = range.offset + range.length
  let position = range.offset
  const consume = async (bytes: Uint8Array) => {
    await sink(bytes)
    position += bytes.length
  }
  for (let fruitless = 0; ;) {
    const before = position
    try {
      await readOnce(url, { position, end, size: range.size }, options, signal, consume)
      if (position >= end) return
      throw new Retry(`the answer ended ${end - position} bytes early`)
    } catch (error) {
      signal?.throwIfAborted()
      if (!(error instanceof Retry)) throw error
      fruitless = position > before ? 1 : fruitless + 1
      if (fruitless >= MAX_FRUITLESS_TRIES) throw unreachable(url, error)
      const delay = Math.max(error.waitMs, (options.retryDelayMs ?? 500) * 2 ** Math.min(fruitless - 1, 5))
      options.log.debug('range request failed, retrying', { host: hostOf(url), reason: error.message, delay })
      await sleep(delay, signal)
    }
  }
}

/** A failure that may pass. `waitMs`: what the server asked for. */
class Retry extends Error {
  readonly waitMs: number
  constructor(message: string, waitMs = 0, cause?: unknown) {
    super(message, { cause })
    this.waitMs = waitMs
  }
}

/** A request that is retried on network errors, 408, 429 and 5xx; other answers are returned. @throws `unreachable`. */
export async function request(
  url: string,
  init: RequestInit,
  options: HttpOptions,
  signal?: AbortSignal,
): Promise<Response> {
  for (let tries = 1; ; tries++) {
    try {
      const idle = AbortSignal.timeout(options.idleTimeoutMs ?? 30_000)
      return await send(url, init, options, AbortSignal.any(signal === undefined ? [idle] : [idle, signal]))
    } catch (error) {
      signal?.throwIfAborted()
      if (!(error instanceof Retry)) throw error
      if (tries >= 3) throw unreachable(url, error)
      await sleep(Math.max(error.waitMs, (options.retryDelayMs ?? 500) * 2 ** (tries - 1)), signal)
    }
  }
}

/** @throws the error a person understands when an answer to `what` means failure. */
export function checkStatus(response: Response, url: string, what: string, hasToken: boolean): void {
  const host = hostOf(url)
  if (response.status === 401 || response.status === 403) {
    const fix = hasToken ? 'HF_TOKEN is set, but gives no access' : 'set HF_TOKEN to a token that has access'
    throw new ChoraleError(
      'bad_config',
      `${what}: ${host} refuses it (${response.status}): private, gated or unknown; ${fix}`,
    )
  }
  if (response.status === 404) throw new ChoraleError('not_found', `${what}: ${host} does not have it (404)`)
  if (!response.ok) throw new ChoraleError('unreachable', `${what}: ${host} answered ${response.status}`)
}

/** The host of a URL for messages. */
export function hostOf(url: string): string {
  return new URL(url).host
}

async function send(
  url: string,
  init: RequestInit,
  options: HttpOptions,
  signal: AbortSignal,
): Promise<Response> {
  // Compressed answers would make lengths and ranges mean something else.
  const headers = new Headers({ 'accept-encoding': 'identity', ...(init.headers as Record<string, string>) })
  if (options.token !== undefined) headers.set('authorization', `Bearer ${options.token}`)
  let response: Response
  try {
    response = await options.fetch(url, { ...init, headers, signal })
  } catch (error) {
    throw new Retry(reasonOf(error), 0, error)
  }
  const { status } = response
  if (status === 408 || status === 429 || status >= 500) {
    await response.body?.cancel()
    const seconds = Number(response.headers.get('retry-after') ?? 0)
    throw new Retry(`status ${status}`, Number.isFinite(seconds) ? Math.min(seconds, 60) * 1000 : 0)
  }
  return response
}

async function readOnce(
  url: string,
  want: { readonly position: number; readonly end: number; readonly size: number },
  options: HttpOptions,
  signal: AbortSignal | undefined,
  sink: (bytes: Uint8Array) => Promise<void>,
): Promise<void> {
  const { end, position } = want
  const stop = new AbortController()
  const idleMs = options.idleTimeoutMs ?? 30_000
  const idle = () => setTimeout(() => stop.abort(new Error(`nothing for ${idleMs} ms`)), idleMs)
  let timer = idle()
  const either = signal === undefined ? stop.signal : AbortSignal.any([signal, stop.signal])
  try {
    const headers = { range: `bytes=${position}-${end - 1}` }
    const response = await send(url, { headers }, options, either)
    let skip = checkAnswer(response, url, want, options.token !== undefined)
    let left = end - position
    const reader = response.body?.getReader()
    if (reader === undefined) return
    while (left > 0) {
      const { done, value } = await reader.read().catch((error: unknown) => {
        throw new Retry(reasonOf(stop.signal.aborted ? stop.signal.reason : error), 0, error)
      })
      if (done) break
      clearTimeout(timer)
      const skipped = Math.min(skip, value.length)
      skip -= skipped
      const bytes = value.subarray(skipped, Math.min(value.length, skipped + left))
      left -= bytes.length
      if (bytes.length > 0) await sink(bytes)
      timer = idle()
    }
  } finally {
    clearTimeout(timer)
    // Frees the connection when the answer holds more than was asked.
    stop.abort(new Error('done'))
  }
}

/** How many bytes of the answer's body come before those asked for. */
function checkAnswer(
  response: Response,
  url: string,
  want: { readonly position: number; readonly size: number },
  hasToken: boolean,
): number {
  const name = `${hostOf(url)}${new URL(url).pathname}`
  const { position, size } = want
  if (response.status === 206) {
    const header = response.headers.get('content-range') ?? ''
    const match = /^bytes (\d+)-(\d+)\/(\d+|\*)$/.exec(header)
    if (match === null || Number(match[1]) !== position || (match[3] !== '*' && Number(match[3]) !== size)) {
      throw new ChoraleError(
        'bad_file',
        `${name}: asked for bytes from ${position} of ${size}, got content-range "${header.slice(0, 80)}"`,
        { field: 'content-range' },
      )
    }
    return 0
  }
  if (response.status === 200) {
    const length = response.headers.get('content-length')
    if (length !== null && Number(length) !== size) {
      throw new ChoraleError('bad_file', `${name}: has ${length} bytes now, had ${size}`, {
        field: 'content-length',
      })
    }
    if (position === 0 || size <= MAX_WHOLE_FILE) return position
    throw new ChoraleError(
      'not_supported',
      `${name}: the server ignores range requests on a file of ${size} bytes`,
    )
  }
  if (response.status === 416)
    throw new ChoraleError('bad_file', `${name}: is shorter than ${size} bytes now`)
  checkStatus(response, url, name, hasToken)
  throw new ChoraleError('unreachable', `${name}: unexpected answer ${response.status}`)
}

function unreachable(url: string, error: Retry): ChoraleError {
  return new ChoraleError('unreachable', `${hostOf(url)} could not be reached: ${error.message}`, {
    cause: error,
  })
}

/** Node hides the reason of a failed fetch in its cause. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  return error.cause instanceof Error ? `${error.message}: ${error.cause.message}` : error.message
}

async function sleep(milliseconds: number, signal: AbortSignal | undefined): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const timer = setTimeout(done, milliseconds)
    function done() {
      clearTimeout(timer)
      signal?.removeEventListener('abort', done)
      if (signal?.aborted === true) reject(signal.reason as Error)
      else resolve()
    }
    signal?.addEventListener('abort', done)
    if (signal?.aborted === true) done()
  })
}
