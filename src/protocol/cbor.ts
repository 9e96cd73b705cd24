import { decode, encode } from 'cborg'
import { ChoraleError } from '../errors.ts'
import { MAX_CBOR_DEPTH, MAX_CBOR_ITEMS } from './limits.ts'

/** A decoded CBOR map with text keys. Fields are checked by `fields.ts` before anything trusts them. */
export type CborMap = Readonly<Record<string, unknown>>

const STRICT = {
  strict: true,
  allowIndefinite: false,
  allowUndefined: false,
  allowInfinity: false,
  allowNaN: false,
  allowBigInt: false,
  rejectDuplicateMapKeys: true,
} as const

/** Canonical CBOR: shortest forms, keys sorted, so equal values are equal bytes. */
export function encodeCbor(value: unknown): Uint8Array {
  return encode(value)
}

/**
 * Decodes strict CBOR that must be one map with text keys. `what` names it in errors.
 *
 * Refused: indefinite lengths, tags, NaN, infinities, undefined, integers beyond 2^53, duplicate keys, overlong
 * integers, trailing bytes, more than `maxItems` values, deep nesting. NOT checked: which fields there are.
 * @throws `protocol`.
 */
export function decodeCborMap(bytes: Uint8Array, what: string, maxItems = MAX_CBOR_ITEMS): CborMap {
  const value = decodeCbor(bytes, what, maxItems)
  if (typeof value !== 'object' || value === null || Array.isArray(value) || value instanceof Uint8Array) {
    throw new ChoraleError('protocol', `${what} is no CBOR map`)
  }
  return value as CborMap
}

/** Decodes strict CBOR of any kind, with the same refusals as `decodeCborMap`. @throws `protocol`. */
export function decodeCbor(bytes: Uint8Array, what: string, maxItems = MAX_CBOR_ITEMS): unknown {
  checkNesting(bytes, what, maxItems)
  try {
    return decode(bytes, STRICT)
  } catch (error) {
    const reason = error instanceof Error ? error.message : 'unreadable'
    throw new ChoraleError('protocol', `${what} is no strict CBOR: ${reason.slice(0, 120)}`)
  }
}

/**
 * Walks the item heads without recursion. The decoder recurses once a level and would overflow the stack on a
 * header of nothing but array heads; it reports everything else that is wrong.
 */
function checkNesting(bytes: Uint8Array, what: string, maxItems: number): void {
  const remaining: number[] = []
  let items = 0
  let offset = 0
  while (offset < bytes.length) {
    if (++items > maxItems) throw new ChoraleError('protocol', `${what} holds more than ${maxItems} values`)
    const head = bytes[offset]!
    const major = head >> 5
    const info = head & 31
    offset++
    let argument = info
    if (info >= 24 && info < 28) {
      const width = 1 << (info - 24)
      argument = 0
      for (let i = 0; i < width; i++) argument = argument * 256 + (bytes[offset + i] ?? 0)
      offset += width
    } else if (info >= 28) {
      throw new ChoraleError('protocol', `${what} has an indefinite or reserved length`)
    }
    if (major === 2 || major === 3) offset += argument
    const children = major === 4 ? argument : major === 5 ? argument * 2 : major === 6 ? 1 : 0
    if (children > 0) {
      if (remaining.length >= MAX_CBOR_DEPTH) {
        throw new ChoraleError('protocol', `${what} is nested deeper than ${MAX_CBOR_DEPTH} levels`)
      }
      remaining.push(children)
      continue
    }
    // A leaf or an empty container ends: close every container that it was the last item of.
    while (remaining.length > 0) {
      const left = remaining.pop()! - 1
      if (left > 0) {
        remaining.push(left)
        break
      }
    }
  }
}
