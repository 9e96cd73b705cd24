import { describe, expect, it } from 'vitest'
import { relativeError } from '../../src/tensor/relative-error.ts'

describe('relativeError', () => {
  it('is the largest distance by the largest number', () => {
    expect(relativeError(new Float32Array([1, 2.5]), new Float32Array([1, 2]))).toBe(0.25)
    expect(relativeError([1, -2], [1, -2])).toBe(0)
    expect(relativeError([0, 0.5], [0, 0])).toBe(0.5)
  })

  it('is infinite for numbers that are none, wherever they stand, and where some are missing', () => {
    expect(relativeError(new Float32Array([1, Number.NaN]), new Float32Array([1, 2]))).toBe(Infinity)
    expect(relativeError([Number.NaN, 2], [1, 2])).toBe(Infinity)
    expect(relativeError(new Float32Array([1]), new Float32Array([1, 2]))).toBe(Infinity)
  })
})
