import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { createStateStore } from '../../../src/ledger/devnet/storage.ts'

const bytes = (...list: number[]) => Uint8Array.from(list)

describe('createStateStore', () => {
  it('keeps copies of what it is given', () => {
    const value = bytes(1)
    const store = createStateStore([[bytes(9), value]])
    value[0] = 2
    expect(store.get(bytes(9))).toEqual(bytes(1))
  })

  it('is not changed by its overlays', () => {
    const store = createStateStore([[bytes(9), bytes(1)]])
    const overlay = store.overlay()
    overlay.set(bytes(9), bytes(2))
    overlay.set(bytes(8), bytes(3))
    expect([...store.entries()]).toEqual([[bytes(9), bytes(1)]])
    expect(overlay.get(bytes(9))).toEqual(bytes(2))
  })
})

describe('StateOverlay', () => {
  it('commits and rolls back nested transactions as a stack of maps does', () => {
    const step = fc.oneof(
      fc.record({ set: fc.nat(5), value: fc.nat(200) }),
      fc.record({ clear: fc.nat(5) }),
      fc.constantFrom('start' as const, 'commit' as const, 'rollback' as const),
    )
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const overlay = createStateStore().overlay()
        const stack = [new Map<number, number>()]
        for (const one of steps) {
          const top = stack.at(-1) ?? new Map<number, number>()
          if (one === 'start') {
            overlay.startTransaction()
            stack.push(new Map(top))
          } else if (one === 'commit' || one === 'rollback') {
            if (stack.length === 1) {
              expect(() => overlay.commitTransaction()).toThrow('none is open')
              continue
            }
            if (one === 'commit') overlay.commitTransaction()
            else overlay.rollbackTransaction()
            stack.pop()
            if (one === 'commit') stack[stack.length - 1] = top
          } else if ('set' in one) {
            overlay.set(bytes(one.set), bytes(one.value))
            top.set(one.set, one.value)
          } else {
            overlay.clear(bytes(one.clear))
            top.delete(one.clear)
          }
          for (let at = 0; at <= 5; at++) {
            const expected = stack.at(-1)?.get(at)
            expect(overlay.get(bytes(at))).toEqual(expected === undefined ? undefined : bytes(expected))
          }
        }
      }),
      { numRuns: 500 },
    )
  })

  it('clears a prefix up to a limit, and says what remains', () => {
    const entries = Array.from({ length: 10 }, (_, at) => [bytes(7, at), bytes(at)] as const)
    const overlay = createStateStore([...entries, [bytes(8), bytes(0)]]).overlay()
    expect(overlay.clearPrefix(bytes(7), 4)).toEqual({ removed: 4, more: true })
    expect(overlay.nextKey(bytes(7))).toEqual(bytes(7, 4))
    expect(overlay.clearPrefix(bytes(7), 6)).toEqual({ removed: 6, more: false })
    expect(overlay.nextKey(bytes(0))).toEqual(bytes(8))
    expect(overlay.clearPrefix(bytes())).toEqual({ removed: 1, more: false })
  })

  it('refuses transactions without end', () => {
    const overlay = createStateStore().overlay()
    expect(() => {
      for (;;) overlay.startTransaction()
    }).toThrow('1024')
  })
})
