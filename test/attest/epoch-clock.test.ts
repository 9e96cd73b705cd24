import { describe, expect, it } from 'vitest'
import { epochTime, epochWindow } from '../../src/attest/epoch-clock.ts'

describe('epochTime', () => {
  it('counts as the pallet does: reference values', () => {
    expect(epochTime(107, 5, 20)).toEqual({ epoch: 5, firstBlock: 105, lastBlock: 124, progress: 100 })
    expect(epochTime(903, 3, 300)).toEqual({ epoch: 3, firstBlock: 903, lastBlock: 1202, progress: 0 })
    expect(epochTime(902, 3, 300)).toMatchObject({ epoch: 2, progress: 996 })
    expect(epochTime(2, 3, 300).epoch).toBe(-1)
  })
})

describe('epochWindow', () => {
  it('has each window begin at its part and end before the next', () => {
    const windows = { proposeFrom: 100, proposeUntil: 500, attestUntil: 950, attestTries: 3 }
    const at = [0, 99, 100, 499, 500, 949, 950, 999].map((progress) => epochWindow(progress, windows))
    expect(at).toEqual(['early', 'early', 'propose', 'propose', 'attest', 'attest', 'closed', 'closed'])
  })
})
