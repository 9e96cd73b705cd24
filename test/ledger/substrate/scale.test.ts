import { inspect } from 'node:util'
import { describe, expect, it } from 'vitest'
import type { LedgerValue } from '../../../src/ledger/ledger.ts'
import { accountText } from '../../../src/ledger/substrate/accounts.ts'
import { toHex } from '../../../src/ledger/hex.ts'
import type { RuntimeType, RuntimeTypes } from '../../../src/ledger/substrate/runtime-types.ts'
import { decodeScale, readScale } from '../../../src/ledger/substrate/scale-decode.ts'
import { encodeCompact, encodeScale } from '../../../src/ledger/substrate/scale-encode.ts'
import { storagePrefix } from '../../../src/ledger/substrate/storage-keys.ts'

const names = ['u8', 'u16', 'u32', 'u64', 'u128', 'i32', 'i128', 'bool', 'str'] as const
const P = Object.fromEntries(names.map((name, i) => [name, i])) as Record<(typeof names)[number], number>
const types: RuntimeTypes = [
  ...names.map((name): RuntimeType => ({ kind: 'primitive', name })),
  { kind: 'sequence', of: P.u8 }, // 9 Bytes
  { kind: 'alias', of: 9 }, // 10 PeerId
  { kind: 'option', of: P.u128 }, // 11
  { kind: 'option', of: P.bool }, // 12
  { kind: 'account', bytes: 20 }, // 13
  { kind: 'account', bytes: 32 }, // 14
  { kind: 'hash', bytes: 32 }, // 15
  { kind: 'tuple', of: [P.u32, P.u128] }, // 16
  { kind: 'sequence', of: 16 }, // 17 a map
  { kind: 'compact', of: P.u32 }, // 18
  { kind: 'compact', of: P.u128 }, // 19
  { kind: 'array', of: P.u8, length: 4 }, // 20
  {
    kind: 'struct',
    fields: [
      { name: 'peer_id', type: 10 },
      { name: 'stake', type: 11 },
    ],
  }, // 21
  {
    kind: 'enum',
    variants: [
      { index: 0, name: 'Idle', fields: [] },
      { index: 3, name: 'One', fields: [{ name: undefined, type: P.u32 }] },
      {
        index: 4,
        name: 'Two',
        fields: [
          { name: undefined, type: P.u8 },
          { name: undefined, type: P.bool },
        ],
      },
      { index: 9, name: 'Named', fields: [{ name: 'block', type: P.u32 }] },
    ],
  }, // 22
  { kind: 'enum', variants: [{ index: 0, name: 'Id', fields: [{ name: undefined, type: 14 }] }] }, // 23 MultiAddress
  { kind: 'sequence', of: 25 }, // 24: holds itself
  { kind: 'sequence', of: 24 }, // 25
  { kind: 'tuple', of: [] }, // 26
  { kind: 'sequence', of: 26 }, // 27
  { kind: 'bits' }, // 28
  { kind: 'sequence', of: 22 }, // 29
]
const accounts = accountText(42)
const ALICE = '5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY'
const encode = (id: number, value: LedgerValue): Uint8Array => encodeScale(types, accounts, id, value)
const decode = (id: number, bytes: Uint8Array): LedgerValue => decodeScale(types, accounts, id, bytes)

/** A small seeded generator: the same cases in every run. */
function mulberry32(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

describe('SCALE values', () => {
  it.each([
    [P.u8, 255, '0xff'],
    [P.u32, 1, '0x01000000'],
    [P.u64, 1n, '0x0100000000000000'],
    [P.i32, -1, '0xffffffff'],
    [P.i128, -2n, `0xfe${'ff'.repeat(15)}`],
    [P.bool, true, '0x01'],
    [P.str, 'é', '0x08c3a9'],
    [9, Uint8Array.of(1, 2), '0x080102'],
    [10, Uint8Array.of(7), '0x0407'],
    [11, undefined, '0x00'],
    [11, 5n, `0x0105${'00'.repeat(15)}`],
    [12, true, '0x01'],
    [12, false, '0x02'],
    [13, `0x${'ab'.repeat(20)}`, `0x${'ab'.repeat(20)}`],
    [15, `0x${'01'.repeat(32)}`, `0x${'01'.repeat(32)}`],
    [17, [[1, 2n]], `0x040100000002${'00'.repeat(15)}`],
    [18, 69, '0x1501'],
    [19, 2n ** 100n, `0x27${'00'.repeat(12)}10`],
    [20, Uint8Array.of(1, 2, 3, 4), '0x01020304'],
    [21, { peer_id: Uint8Array.of(9), stake: undefined }, '0x040900'],
    [22, 'Idle', '0x00'],
    [22, { type: 'One', value: 7 }, '0x0307000000'],
    [22, { type: 'Two', value: [1, true] }, '0x040101'],
    [22, { type: 'Named', value: { block: 2 } }, '0x0902000000'],
    [26, [], '0x'],
    [28, [true, false, true], '0x0c05'],
  ] as const)('type %i: %o is %s, both ways', (id, value, hex) => {
    expect(toHex(encode(id, value))).toBe(hex)
    expect(decode(id, encode(id, value))).toEqual(value)
  })

  it('accounts of 32 bytes are SS58, also inside MultiAddress', () => {
    expect(decode(14, encode(14, ALICE))).toBe(ALICE)
    expect(toHex(encode(23, ALICE)).slice(0, 4)).toBe('0x00')
    expect(decode(23, encode(23, ALICE))).toEqual({ type: 'Id', value: ALICE })
  })

  it.each([
    [0n, '0x00'],
    [63n, '0xfc'],
    [64n, '0x0101'],
    [16_383n, '0xfdff'],
    [16_384n, '0x02000100'],
    [1_073_741_823n, '0xfeffffff'],
    [1_073_741_824n, '0x0300000040'],
    [2n ** 64n - 1n, '0x13ffffffffffffffff'],
  ])('compact %i', (value, hex) => expect(toHex(encodeCompact(value))).toBe(hex))

  it.each([
    [P.u8, 256],
    [P.u8, -1],
    [P.u32, 1.5],
    [P.u32, '1'],
    [P.u128, 2n ** 128n],
    [P.i32, 2 ** 31],
    [P.bool, 1],
    [9, 'text'],
    [13, '0x00'],
    [14, `0x${'00'.repeat(20)}`],
    [15, '0x1234'],
    [17, [[1]]],
    [20, Uint8Array.of(1)],
    [21, { peer_id: Uint8Array.of(9), stak: 1n }],
    [21, [1, 2]],
    [22, 'Busy'],
    [22, { type: 'Busy', value: 1 }],
    [22, { type: 'Two', value: [1] }],
    [99, 1],
  ] as const)('type %i refuses %o', (id, value) => {
    expect(() => encode(id, value)).toThrow(expect.objectContaining({ name: 'ChoraleError' }) as Error)
  })

  it('a type that holds itself ends at the depth limit; empty elements can not be claimed by the million', () => {
    expect(() => decode(24, new Uint8Array(1000).fill(4))).toThrow(/deep/)
    expect(() => decode(27, encodeCompact(4_000_000_000n))).toThrow(/empty elements/)
  })

  it('bytes missing or left over are told', () => {
    expect(() => decode(P.u32, Uint8Array.of(1, 2))).toThrow(/ends early/)
    expect(() => decode(P.u8, Uint8Array.of(1, 2))).toThrow(/1 bytes are left over/)
    expect(() => decode(9, Uint8Array.of(0xfe, 0xff, 0xff, 0xff))).toThrow(/ends early/)
  })

  it('any bytes decode or are refused, and what decodes encodes again', () => {
    const random = mulberry32(7)
    let decoded = 0
    for (let i = 0; i < 100_000; i++) {
      const id = Math.floor(random() * types.length)
      const bytes = Uint8Array.from({ length: Math.floor(random() * 24) }, () =>
        Math.floor(random() ** 3 * 256),
      )
      const reader = { types, accounts, bytes, offset: 0 }
      let value: LedgerValue
      try {
        value = readScale(reader, id)
      } catch (error) {
        if ((error as Error).name !== 'ChoraleError') throw error
        continue
      }
      decoded++
      // Compacts and text have longer spellings of the same value: what must agree is the value.
      const again = decode(id, encode(id, value))
      if (inspect(again) !== inspect(value)) expect(again).toEqual(value)
    }
    expect(decoded).toBeGreaterThan(10_000)
  })
})

describe('storagePrefix', () => {
  it("is the hash of the pallet's and the item's name", () => {
    expect(toHex(storagePrefix({ prefix: 'System', name: 'Account' }))).toBe(
      '0x26aa394eea5630e07c48ae0c9558cef7b99d880ec681799c0cf30e8886371da9',
    )
    expect(toHex(storagePrefix({ prefix: 'System', name: 'Events' }))).toBe(
      '0x26aa394eea5630e07c48ae0c9558cef780d41e5e16056765bc8461851072c9d7',
    )
  })
})
