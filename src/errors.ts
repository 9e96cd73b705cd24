/**
 * Every error that a user, a caller or another peer can act on.
 *
 * Callers switch on `code`, not on the class: names and codes survive worker, wire and package
 * boundaries where `instanceof` does not. Messages name the bad value, the limit and the fix.
 */

export type ErrorCode =
  | 'bad_config' // a flag, an option or an environment variable is unusable
  | 'bad_file' // a model file breaks its format or says the impossible
  | 'bad_request' // a caller's argument is out of bounds
  | 'protocol' // a peer sent something that breaks the protocol
  | 'limit' // a size or count exceeds a limit that defends this process
  | 'capacity' // no room now (KV cache, sessions); another server or later may work
  | 'context_length' // the prompt and answer do not fit the model's context
  | 'not_found' // unknown model, file, peer or session
  | 'not_supported' // a feature or config value that is not computed here
  | 'no_chain' // no set of servers covers all blocks
  | 'unreachable' // a peer or host can't be reached
  | 'timeout' // a deadline passed
  | 'session_lost' // a session died and could not be rebuilt
  | 'engine' // a compute engine failed or is unusable here
  | 'ledger' // the ledger refused a call, or can't be read
  | 'refused' // a peer is not admitted: no stake, no valid pass, or over its rate
  | 'cancelled' // the caller asked to stop
  | 'internal' // a bug in Chorale

/** Codes after which the same request may succeed later or on another server. */
const RETRYABLE: ReadonlySet<ErrorCode> = new Set([
  'capacity',
  'unreachable',
  'timeout',
  'session_lost',
  'no_chain',
])

export interface ErrorDetail {
  cause?: unknown
  /** What went wrong where: a file's field, a request's parameter, a block range. */
  field?: string
  /** For `capacity` and `refused`: when the same request may succeed, in milliseconds from now. */
  retryAfterMs?: number
}

/** The one error class; `code` says what happened, the message says it to a person. */
export class ChoraleError extends Error {
  override readonly name = 'ChoraleError'
  readonly code: ErrorCode
  readonly field: string | undefined
  readonly retryAfterMs: number | undefined

  constructor(code: ErrorCode, message: string, detail: ErrorDetail = {}) {
    super(message, detail.cause === undefined ? undefined : { cause: detail.cause })
    this.code = code
    this.field = detail.field
    this.retryAfterMs = detail.retryAfterMs
  }

  get retryable(): boolean {
    return RETRYABLE.has(this.code)
  }
}

/** The code of anything thrown: `cancelled` for aborts, `internal` for what is not ours. */
export function errorCode(error: unknown): ErrorCode {
  if (isChoraleError(error)) return error.code
  if (error instanceof Error && error.name === 'AbortError') return 'cancelled'
  return 'internal'
}

export function isChoraleError(error: unknown): error is ChoraleError {
  return error instanceof Error && error.name === 'ChoraleError' && 'code' in error
}

/** A person's reading of anything thrown. */
export function errorMessage(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
