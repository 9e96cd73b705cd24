import type { z } from 'zod'
import { ApiError, invalidRequest } from './errors.ts'
import type { ApiLimits } from './limits.ts'

/**
 * Reads a request's JSON body against `schema`, counting bytes while they arrive.
 * `precheck` sees the object before the schema drops what it doesn't know.
 * @throws `ApiError` 413 past `limits.bodyBytes`, 400 for anything that is not such JSON, naming the parameter.
 */
export async function readJson<T>(
  request: Request,
  schema: z.ZodType<T>,
  limits: ApiLimits,
  precheck: (raw: Readonly<Record<string, unknown>>) => void = () => undefined,
): Promise<T> {
  const text = await readText(request, limits.bodyBytes)
  checkDepth(text, limits.jsonDepth)
  let raw: unknown
  try {
    raw = JSON.parse(text)
  } catch (error) {
    throw new ApiError(
      400,
      'invalid_request_error',
      `the body is not JSON: ${error instanceof Error ? error.message.slice(0, 200) : 'parse error'}`,
      { code: 'invalid_json' },
    )
  }
  if (typeof raw !== 'object' || raw === null || Array.isArray(raw)) {
    throw new ApiError(400, 'invalid_request_error', 'the body must be a JSON object', {
      code: 'invalid_json',
    })
  }
  checkListLengths(raw as Record<string, unknown>, limits)
  precheck(raw as Record<string, unknown>)
  const parsed = schema.safeParse(raw)
  if (parsed.success) return parsed.data
  throw firstIssue(parsed.error, raw)
}

async function readText(request: Request, limit: number): Promise<string> {
  const tooLarge = () =>
    new ApiError(413, 'invalid_request_error', `the body is larger than the limit of ${limit} bytes`, {
      code: 'body_too_large',
    })
  const declared = Number(request.headers.get('content-length') ?? 0)
  if (declared > limit) throw tooLarge()
  const parts: Uint8Array[] = []
  let length = 0
  if (request.body !== null) {
    const reader = request.body.getReader()
    for (;;) {
      const { done, value } = await reader.read()
      if (done) break
      length += value.length
      if (length > limit) {
        await reader.cancel().catch(() => undefined)
        throw tooLarge()
      }
      parts.push(value)
    }
  }
  const bytes = new Uint8Array(length)
  let offset = 0
  for (const part of parts) {
    bytes.set(part, offset)
    offset += part.length
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch {
    throw new ApiError(400, 'invalid_request_error', 'the body is not UTF-8', { code: 'invalid_json' })
  }
}

/** Counts brackets outside strings, before any parser sees them. */
function checkDepth(text: string, limit: number): void {
  let depth = 0
  let inString = false
  for (let i = 0; i < text.length; i++) {
    const char = text.charCodeAt(i)
    if (inString) {
      if (char === 0x5c) i++
      else if (char === 0x22) inString = false
    } else if (char === 0x22) inString = true
    else if (char === 0x5b || char === 0x7b) {
      if (++depth > limit) {
        throw new ApiError(
          400,
          'invalid_request_error',
          `the body is nested deeper than the limit of ${limit}`,
          {
            code: 'invalid_json',
          },
        )
      }
    } else if (char === 0x5d || char === 0x7d) depth--
  }
}

/** The schema collects every wrong entry of a list, so long lists are refused before it. */
function checkListLengths(raw: Readonly<Record<string, unknown>>, limits: ApiLimits): void {
  const { messages } = raw
  if (Array.isArray(messages) && messages.length > limits.messages) {
    throw invalidRequest(
      'messages',
      `messages: ${messages.length} are more than the limit of ${limits.messages}`,
    )
  }
}

/** The first thing wrong, named by its dotted path. */
function firstIssue(error: z.ZodError, raw: unknown): ApiError {
  const issue = error.issues[0]
  if (issue === undefined) return new ApiError(400, 'invalid_request_error', 'the body is not understood')
  const param = issue.path.map(String).join('.').slice(0, 200)
  if (valueAt(raw, issue.path) === undefined) {
    return invalidRequest(
      param,
      `missing required parameter: ${param} (${issue.message})`,
      'missing_required_parameter',
    )
  }
  return invalidRequest(param, `${param}: ${issue.message}`)
}

function valueAt(raw: unknown, path: readonly PropertyKey[]): unknown {
  let value: unknown = raw
  for (const key of path) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, key)) return undefined
    value = (value as Record<PropertyKey, unknown>)[key]
  }
  return value
}
