import { describe, expect, it } from 'vitest'
import { createStateStore } from '../../../../src/ledger/devnet/storage.ts'
import { balancesPallet } from '../../../../src/ledger/devnet/native/balances.ts'
import { DispatchFailure } from '../../../../src/ledger/devnet/native/dispatch-error.ts'
import type { PalletDefinition } from '../../../../src/ledger/devnet/native/pallet.ts'
import { runtimeTypes } from '../../../../src/ledger/devnet/native/runtime-types.ts'
import { RuntimeState } from '../../../../src/ledger/devnet/native/state.ts'
import { systemPallet } from '../../../../src/ledger/devnet/native/system.ts'

const ALITH = '0xf24ff3a9cf04c71dbc94d0b566f7a27b94566cac'
const BALTATHAR = '0x3cd0a705a2dc65e5b1e1205896baa2be8a07c6e0'

const sample: PalletDefinition = {
  name: 'Sample',
  index: 40,
  types: {},
  storage: [
    { name: 'Count', keys: [], type: 'u32', default: 0 },
    { name: 'Note', keys: [{ hasher: 'Blake2_128Concat', type: 'AccountId20' }], type: 'Bytes' },
    {
      name: 'Pair',
      keys: [
        { hasher: 'Identity', type: 'u32' },
        { hasher: 'Twox64Concat', type: 'u32' },
      ],
      type: 'u128',
      default: 7n,
    },
  ],
  calls: [
    {
      index: 0,
      name: 'fail_late',
      args: {},
      dispatch(context) {
        context.set('Count', [], 99)
        context.emit('Counted', [99])
        context.fail('Never')
      },
    },
  ],
  events: [{ index: 0, name: 'Counted', fields: ['u32'] }],
  errors: ['Other', 'Never'],
  constants: [],
}

const types = runtimeTypes([systemPallet({}), balancesPallet({}), sample])
const newState = () => new RuntimeState(types, createStateStore().overlay())

describe('RuntimeState', () => {
  it('reads defaults, what was set, and undefined for absent optional entries', () => {
    const context = newState().context('Sample')
    expect(context.get('Count')).toBe(0)
    expect(context.get('Note', ALITH)).toBeUndefined()
    expect(context.get('Pair', 1, 2)).toBe(7n)
    expect(context.has('Pair', 1, 2)).toBe(false)
    context.set('Pair', [1, 2], 8n)
    context.set('Note', [ALITH.toUpperCase().replace('X', 'x')], Uint8Array.of(1))
    expect(context.get('Pair', 1, 2)).toBe(8n)
    expect(context.get('Note', ALITH)).toEqual(Uint8Array.of(1))
    context.remove('Pair', 1, 2)
    expect(context.get('Sample.Pair', 1, 2)).toBe(7n)
  })

  it('walks and clears maps by their first keys', () => {
    const context = newState().context('Sample')
    for (let first = 0; first < 3; first++)
      for (let second = 0; second < 4; second++)
        context.set('Pair', [first, second], BigInt(10 * first + second))
    expect(context.entries('Pair')).toHaveLength(12)
    const found = context.entries('Pair', 1)
    expect(found.map(({ keys }) => Number(keys[0])).toSorted((a, b) => a - b)).toEqual([0, 1, 2, 3])
    for (const { keys, value } of found) expect(value).toBe(10n + BigInt(keys[0] as number))
    context.removeAll('Pair', 1)
    expect(context.entries('Pair', 1)).toEqual([])
    expect(context.entries('Pair')).toHaveLength(8)
  })

  it('a rolled back transaction leaves no value and no event', () => {
    const state = newState()
    const context = state.context('Sample')
    context.set('Count', [], 1)
    context.emit('Counted', [1])
    expect(() => state.dispatch({ signed: ALITH }, { type: 'Sample', value: 'fail_late' })).toThrow(
      DispatchFailure,
    )
    expect(context.get('Count')).toBe(1)
    state.flushEvents()
    expect(context.get('System.Events')).toEqual([
      {
        phase: 'Initialization',
        event: { type: 'Sample', value: { type: 'Counted', value: 1 } },
        topics: [],
      },
    ])
    state.phase = { extrinsic: 2 }
    context.emit('Counted', [2])
    state.flushEvents()
    expect(context.get('System.Events')).toHaveLength(2)
    expect(context.get('System.EventCount')).toBe(2)
  })

  it('fail ends with the module error of the pallet', () => {
    try {
      newState().context('Sample').fail('Never')
    } catch (error) {
      expect((error as DispatchFailure).error).toEqual({
        type: 'Module',
        value: { index: 40, error: Uint8Array.of(1, 0, 0, 0) },
      })
      return
    }
    expect.unreachable()
  })

  it('random depends on the subject and the place, and on nothing else', () => {
    const state = newState()
    const one = state.random('election')
    expect(one).toHaveLength(32)
    expect(state.random('election')).toEqual(one)
    expect(state.random('other')).not.toEqual(one)
    state.phase = { extrinsic: 0 }
    expect(state.random('election')).not.toEqual(one)
    state.phase = 'Initialization'
    state.set('System.Number', [], 1)
    expect(state.random('election')).not.toEqual(one)
  })

  it('balances keep to the existential deposit and account for the supply', () => {
    const { balances } = newState()
    balances.deposit(ALITH, 499n)
    expect(balances.free(ALITH)).toBe(0n)
    expect(balances.issuance()).toBe(0n)
    balances.deposit(ALITH, 2_000n)
    expect(balances.withdraw(ALITH, 1_501n)).toBe(false)
    expect(balances.withdraw(ALITH, 500n)).toBe(true)
    expect(balances.transfer(ALITH, BALTATHAR, 499n)).toBe(false)
    expect(balances.transfer(ALITH, BALTATHAR, 500n)).toBe(true)
    expect(balances.free(ALITH)).toBe(1_000n)
    expect(balances.free(BALTATHAR)).toBe(500n)
    expect(balances.issuance()).toBe(1_500n)
  })
})
