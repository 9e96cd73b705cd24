import { ChoraleError, errorCode, isChoraleError, type ErrorCode } from '../errors.ts'

/** What an API error's body says, in OpenAI's shape. */
export interface ErrorBody {
  readonly error: {
    readonly message: string
    readonly type: string
    /** The request's parameter at fault, as a dotted path. */
    readonly param: string | null
    readonly code: string | null
    /** With `no_chain`: blocks [start, end) without a server, and models that have all of theirs. */
    readonly missing_blocks?: readonly (readonly number[])[]
    readonly complete_models?: readonly string[]
  }
}

interface Edge {
  readonly status: number
  readonly type: string
  readonly code?: string
}

/** The one table from our codes to HTTP. Codes not here are bugs of this process as seen by a caller: 500. */
const EDGES: Partial<Record<ErrorCode, Edge>> = {
  bad_request: { status: 400, type: 'invalid_request_error' },
  not_supported: { status: 400, type: 'invalid_request_error' },
  limit: { status: 400, type: 'invalid_request_error' },
  context_length: { status: 400, type: 'invalid_request_error', code: 'context_length_exceeded' },
  not_found: { status: 404, type: 'not_found_error' },
  capacity: { status: 503, type: 'unavailable_error' },
  no_chain: { status: 503, type: 'unavailable_error' },
  unreachable: { status: 502, type: 'api_error' },
  session_lost: { status: 502, type: 'api_error' },
  protocol: { status: 502, type: 'api_error' },
  timeout: { status: 504, type: 'timeout_error' },
  // Nobody is left to read it; 499 is what proxies log for a client that went away.
  cancelled: { status: 499, type: 'api_error' },
}

/** Seconds a caller is asked to wait after 429 and 503: capacity frees within an answer's time. */
const RETRY_AFTER_SECONDS = 2

/** An error whose HTTP status and type were decided where it was thrown. */
export class ApiError extends Error {
  override readonly name = 'ApiError'
  readonly status: number
  readonly type: string
  readonly param: string | null
  readonly code: string | null
  readonly retryAfterSeconds: number
  readonly extra: Pick<ErrorBody['error'], 'missing_blocks' | 'complete_models'>

  constructor(
    status: number,
    type: string,
    message: string,
    detail: {
      param?: string
      code?: string
      /** After 429 and 503 only. */
      retryAfterSeconds?: number
      /** More fields of the body. */
      extra?: ApiError['extra']
    } = {},
  ) {
    super(message)
    this.status = status
    this.type = type
    this.param = detail.param ?? null
    this.code = detail.code ?? null
    this.retryAfterSeconds = detail.retryAfterSeconds ?? RETRY_AFTER_SECONDS
    this.extra = detail.extra ?? {}
  }
}

/** A 400 that names the parameter. */
export function invalidRequest(param: string, message: string, code = 'invalid_value'): ApiError {
  return new ApiError(400, 'invalid_request_error', message, { param, code })
}

/** A parameter that would change the output and is not computed here. */
export function unsupported(param: string, message: string): ApiError {
  return invalidRequest(param, message, 'unsupported_parameter')
}

/** Status, body and headers of anything thrown. Messages of bugs stay inside: the caller gets the request id to quote. */
export function describeError(
  error: unknown,
  requestId: string,
): { status: number; body: ErrorBody; headers: Record<string, string>; isBug: boolean } {
  if (error instanceof ApiError) {
    const { message, type, param, code, extra } = error
    return edge(error.status, { message, type, param, code, ...extra }, error.retryAfterSeconds)
  }
  const code = errorCode(error)
  const known = EDGES[code]
  if (known === undefined || (!isChoraleError(error) && code === 'internal')) {
    const message = `internal error; please report it with request id ${requestId}`
    return { ...edge(500, { message, type: 'api_error', param: null, code: 'internal' }), isBug: true }
  }
  return edge(known.status, {
    message: error instanceof Error ? error.message : String(error),
    type: known.type,
    param: error instanceof ChoraleError ? (error.field ?? null) : null,
    code: known.code ?? code,
  })
}

function edge(status: number, error: ErrorBody['error'], retryAfterSeconds = RETRY_AFTER_SECONDS) {
  const headers: Record<string, string> =
    status === 429 || status === 503 ? { 'retry-after': String(retryAfterSeconds) } : {}
  return { status, body: { error }, headers, isBug: false }
}
