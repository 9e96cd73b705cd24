import { describe, expect, it } from 'vitest'
import { errorCode } from '../../src/errors.ts'
import { decodeCborMap, encodeCbor } from '../../src/protocol/cbor.ts'
import { MAX_CBOR_DEPTH, MAX_CBOR_ITEMS } from '../../src/protocol/limits.ts'

const hex = (text: string) => Uint8Array.from(Buffer.from(text, 'hex'))

describe('decodeCborMap', () => {
  it('reads what encodeCbor wrote, keys in canonical order', () => {
    const value = { bb: 1, a: [true, null, 'x', -5, 1.5], c: Uint8Array.of(1, 2) }
    expect(decodeCborMap(encodeCbor(value), 'x')).toEqual(value)
    expect(encodeCbor({ bb: 1, a: 2 })).toEqual(encodeCbor({ a: 2, bb: 1 }))
  })

  it.each([
    ['an empty input', hex('')],
    ['a list', hex('8101')],
    ['a number', hex('01')],
    ['a byte string', hex('4101')],
    ['an indefinite map', hex('bf616101ff')],
    ['an indefinite text', hex('a161617f6161ff')],
    ['a tag', hex('a16161c001')],
    ['NaN', hex('a16161f97e00')],
    ['an infinity', hex('a16161fb7ff0000000000000')],
    ['undefined', hex('a16161f7')],
    ['an integer beyond 2^53', hex('a161611bffffffffffffffff')],
    ['a negative integer beyond 2^53', hex('a161613bffffffffffffffff')],
    ['a key twice', hex('a2616101616102')],
    ['an overlong integer', hex('a161611801')],
    ['trailing bytes', hex('a161610100')],
    ['a cut map', hex('a26161')],
    ['a number as key', hex('a10102')],
    ['a byte string of 2^64-1 bytes', hex('a161615bffffffffffffffff')],
    ['a list of 2^32-1 entries', hex('a161619affffffff')],
    ['a map of 2^64-1 entries', hex('bbffffffffffffffff')],
  ])('refuses %s', (_, bytes) => {
    let code: string | undefined
    try {
      decodeCborMap(bytes, 'x')
    } catch (error) {
      code = errorCode(error)
    }
    expect(code).toBe('protocol')
  })

  it('refuses nesting beyond the limit, however deep, and takes the limit itself', () => {
    const nested = (depth: number) => {
      const lists = new Uint8Array(depth - 1).fill(0x81)
      return Uint8Array.from([0xa1, 0x61, 0x61, ...lists, 0x01])
    }
    expect(() => decodeCborMap(nested(MAX_CBOR_DEPTH), 'x')).not.toThrow()
    for (const depth of [MAX_CBOR_DEPTH + 1, 1000, 4000]) {
      expect(() => decodeCborMap(nested(depth), 'header')).toThrow(/header is nested deeper than 6/)
    }
  })

  it('refuses more values than allowed before it builds them', () => {
    const list = { a: Array.from({ length: MAX_CBOR_ITEMS }, () => 0) }
    expect(() => decodeCborMap(encodeCbor(list), 'header')).toThrow(/more than 512 values/)
  })

  it('keeps __proto__ a plain key', () => {
    const map = decodeCborMap(
      Uint8Array.from([0xa1, 0x69, ...Buffer.from('__proto__'), 0xa1, 0x61, 0x61, 1]),
      'x',
    )
    expect(Object.keys(map)).toEqual(['__proto__'])
    expect(map['a']).toBeUndefined()
  })
})
