import { sha256 } from '@noble/hashes/sha2.js'
import { ApiError } from './errors.ts'

const encoder = new TextEncoder()

/**
 * A check of `Authorization: Bearer KEY`. Without keys everybody may come, whatever key he sends.
 * Digests are compared in full, so the time tells nothing about how much of a key was right.
 * @returns a function that throws `ApiError` 401.
 */
export function createKeyCheck(keys: readonly string[]): (authorization: string | undefined) => void {
  const digests = keys.map((key) => sha256(encoder.encode(key)))
  return (authorization) => {
    if (digests.length === 0) return
    const presented = /^Bearer +(\S+)$/i.exec(authorization ?? '')?.[1]
    if (presented === undefined) {
      throw new ApiError(
        401,
        'authentication_error',
        'this gateway wants a key: send "Authorization: Bearer KEY"',
        {
          code: 'invalid_api_key',
        },
      )
    }
    const digest = sha256(encoder.encode(presented))
    let known = false
    for (const expected of digests) known = sameBytes(digest, expected) || known
    if (!known) {
      throw new ApiError(401, 'authentication_error', 'this key is not known here', {
        code: 'invalid_api_key',
      })
    }
  }
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  let difference = a.length ^ b.length
  for (let i = 0; i < a.length; i++) difference |= (a[i] ?? 0) ^ (b[i] ?? 0)
  return difference === 0
}

/**
 * Refuses a Host that is not this machine's own name: a page whose DNS name was turned to 127.0.0.1 (rebinding)
 * is same-origin to the browser, and only the Host header gives it away.
 * @throws `ApiError` 403.
 */
export function checkLoopbackHost(host: string): void {
  const name = host.replace(/:\d+$/, '').toLowerCase()
  const loopback =
    name === 'localhost' ||
    name.endsWith('.localhost') ||
    name === '[::1]' ||
    /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(name)
  if (!loopback) {
    throw new ApiError(
      403,
      'permission_error',
      `this gateway listens on loopback and answers to localhost only, not to "${name.slice(0, 100)}"; bind it to another address to serve other names`,
      { code: 'host_not_allowed' },
    )
  }
}

/**
 * Refuses browser pages of other origins unless they are listed (`*` lists all): without this a page anywhere
 * could make a visitor's own gateway compute, even though it could not read the answer.
 * @throws `ApiError` 403.
 */
export function checkOrigin(origin: string | undefined, host: string, allowed: readonly string[]): void {
  if (origin === undefined || allowed.includes('*') || allowed.includes(origin)) return
  if (URL.canParse(origin) && new URL(origin).host === host) return
  throw new ApiError(
    403,
    'permission_error',
    `pages of ${origin.slice(0, 100)} may not use this gateway; allow them with --cors-origin`,
    { code: 'origin_not_allowed' },
  )
}
