/** What a caller may send as its own request id: it comes back in a header and stands in logs. */
const CALLERS_ID = /^[\w.:-]{1,128}$/

/** The caller's `X-Request-Id` when it is harmless, else a new one. */
export function requestIdOf(header: string | undefined): string {
  return header !== undefined && CALLERS_ID.test(header) ? header : `req_${randomName()}`
}

/** 24 random hexadecimal digits for ids of requests and answers. */
export function randomName(): string {
  return crypto.randomUUID().replaceAll('-', '').slice(0, 24)
}
