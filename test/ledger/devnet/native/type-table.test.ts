import { TypeRegistry } from '@polkadot/types'
import { describe, expect, it } from 'vitest'
import { DISPATCH_ERROR_TYPES } from '../../../../src/ledger/devnet/native/dispatch-error.ts'
import { toHex } from '../../../../src/ledger/hex.ts'
import { SYSTEM_TYPES } from '../../../../src/ledger/devnet/native/system-types.ts'
import { TypeTable } from '../../../../src/ledger/devnet/native/type-table.ts'
import type { LedgerValue } from '../../../../src/ledger/ledger.ts'

function table(): TypeTable {
  const types = new TypeTable()
  types.add(DISPATCH_ERROR_TYPES)
  types.add(SYSTEM_TYPES)
  types.add({
    PeerInfo: {
      path: 'pallet_network::pallet::PeerInfo',
      fields: { peer_id: 'OpaquePeerId', multiaddr: 'Option<Bytes>' },
    },
    Class: { path: 'pallet_network::pallet::Class', variants: { Idle: [], Validator: [] } },
    Swap: {
      path: 'pallet_network::pallet::Swap',
      variants: { None: [], One: ['u32'], Two: ['u32', 'u128'], Named: { id: 'u32' } },
    },
    Tree: { path: 'tree::Tree', variants: { Leaf: [], Node: ['Vec<Tree>'] } },
  })
  return types
}

const ALITH = '0xf24ff3a9cf04c71dbc94d0b566f7a27b94566cac'

/** Type, value, bytes as the SCALE specification and parity-scale-codec's documentation give them. */
const VECTORS: readonly (readonly [string, LedgerValue, string])[] = [
  ['u8', 69, '0x45'],
  ['i8', -1, '0xff'],
  ['u16', 42, '0x2a00'],
  ['u32', 16777215, '0xffffff00'],
  ['u64', 1n, '0x0100000000000000'],
  ['u128', 2n ** 128n - 1n, `0x${'ff'.repeat(16)}`],
  ['i128', -2n, `0xfe${'ff'.repeat(15)}`],
  ['bool', true, '0x01'],
  ['str', 'Hamlet', '0x1848616d6c6574'],
  ['Compact<u32>', 0, '0x00'],
  ['Compact<u32>', 1, '0x04'],
  ['Compact<u32>', 42, '0xa8'],
  ['Compact<u32>', 69, '0x1501'],
  ['Compact<u32>', 65535, '0xfeff0300'],
  ['Compact<u128>', 100000000000000n, '0x0b00407a10f35a'],
  ['Compact<u32>', 2 ** 30, '0x0300000040'],
  ['Option<u8>', undefined, '0x00'],
  ['Option<u8>', 0, '0x0100'],
  ['Vec<u16>', [4, 8, 15, 16, 23, 42], '0x18040008000f00100017002a00'],
  ['(Compact<u32>, bool)', [3, false], '0x0c00'],
  ['Bytes', Uint8Array.of(1, 2), '0x080102'],
  ['[u8; 3]', Uint8Array.of(1, 2, 3), '0x010203'],
  ['AccountId20', ALITH, ALITH],
  ['FpAccountAccountId20', ALITH, ALITH],
  [
    'BTreeMap<u32, bool>',
    [
      [1, true],
      [300, false],
    ],
    '0x0801000000012c01000000',
  ],
  ['BTreeSet<u32>', [2, 5], '0x080200000005000000'],
  ['Result<(), DispatchError>', { type: 'Ok', value: [] }, '0x00'],
  ['Result<(), DispatchError>', { type: 'Err', value: 'BadOrigin' }, '0x0102'],
  ['PalletNetworkPeerInfo', { peer_id: Uint8Array.of(7), multiaddr: undefined }, '0x040700'],
  ['Class', 'Validator', '0x01'],
  ['Swap', 'None', '0x00'],
  ['Swap', { type: 'One', value: 1 }, '0x0101000000'],
  ['Swap', { type: 'Two', value: [1, 2n] }, '0x020100000002000000000000000000000000000000'],
  ['Swap', { type: 'Named', value: { id: 9 } }, '0x0309000000'],
]

describe('TypeTable', () => {
  it.each(VECTORS)('%s: known bytes, both ways', (type, value, hex) => {
    const types = table()
    expect(toHex(types.encode(type, value))).toBe(hex)
    expect(types.decode(type, types.encode(type, value))).toStrictEqual(value)
  })

  it('writes maps and sets sorted and without doubles, the last one counting', () => {
    const types = table()
    expect(types.decode('BTreeSet<u32>', types.encode('BTreeSet<u32>', [5, 2, 5]))).toEqual([2, 5])
    const map = [
      [Uint8Array.of(2), 1],
      [Uint8Array.of(1, 1), 2],
      [Uint8Array.of(2), 3],
    ] as const
    const encoded = types.encode('BTreeMap<Bytes, u32>', map)
    expect(types.decode('BTreeMap<Bytes, u32>', encoded)).toEqual([
      [Uint8Array.of(1, 1), 2],
      [Uint8Array.of(2), 3],
    ])
  })

  it('agrees with @polkadot/types on random u128 and compact values', () => {
    const types = table()
    const registry = new TypeRegistry()
    for (let bit = 0n; bit < 128n; bit++) {
      for (const value of [(1n << bit) - 1n, 1n << bit, (1n << bit) + 1n]) {
        expect(toHex(types.encode('Compact<u128>', value))).toBe(
          toHex(registry.createType('Compact<u128>', value).toU8a()),
        )
        expect(toHex(types.encode('u128', value))).toBe(toHex(registry.createType('u128', value).toU8a()))
      }
    }
  })

  it.each<readonly [string, LedgerValue]>([
    ['u32', -1],
    ['u32', 2 ** 32],
    ['u32', 1.5],
    ['u128', 1],
    ['u128', 2n ** 128n],
    ['Bytes', 'text'],
    ['AccountId20', '0x12'],
    ['Class', 'Boss'],
    ['PeerInfo', { peer_id: Uint8Array.of(1), multiaddr: undefined, more: 1 }],
    ['(u8, u8)', [1]],
    ['Compact<u32>', 2 ** 32],
  ])('refuses to encode %s from a wrong value with bad_request', (type, value) => {
    expect(() => table().encode(type, value)).toThrow(expect.objectContaining({ code: 'bad_request' }))
  })

  it.each([
    ['Compact<u32>', '0x0100'],
    ['Compact<u32>', '0x0700000000000000'],
    ['Vec<u32>', '0xfeffffff'],
    ['Bytes', '0x130000000001'],
    ['Option<u8>', '0x02'],
    ['bool', '0x02'],
    ['u32', '0x0000'],
    ['u32', '0x0000000000'],
    ['Class', '0x02'],
    ['str', '0x04ff'],
  ])('refuses to decode %s from %s with ledger', (type, hex) => {
    const bytes = Uint8Array.from(hex.slice(2).match(/../g) ?? [], (byte) => Number.parseInt(byte, 16))
    expect(() => table().decode(type, bytes)).toThrow(expect.objectContaining({ code: 'ledger' }))
  })

  it('stops at deep nesting instead of overflowing the stack', () => {
    const deep = new Uint8Array(20_000).map((_, index) => (index % 2 === 0 ? 1 : 4))
    expect(() => table().decode('Tree', deep)).toThrow(/nested deeper/)
  })

  it('knows unknown names and bad text', () => {
    expect(() => table().codec('Nothing')).toThrow(/not in the type table/)
    for (const text of ['', 'Vec<', 'Vec<u8', '[u8; x]', 'Map<u8, u8>', 'u8 u8', '(u8'])
      expect(() => table().codec(text)).toThrow(expect.objectContaining({ code: 'internal' }))
  })
})
