import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { gatherText } from '../../web/engine/gather-text.ts'

describe('gatherText', () => {
  beforeEach(() => vi.useFakeTimers())
  afterEach(() => vi.useRealTimers())

  it('sends the first piece and those of slow tokens at once', () => {
    const sent: string[] = []
    const text = gatherText((piece) => sent.push(piece))
    for (const piece of ['a', 'b', 'c']) {
      text.push(piece)
      vi.advanceTimersByTime(50)
    }
    expect(sent).toEqual(['a', 'b', 'c'])
  })

  it('sends quick tokens together, none late by more than 40 ms and none twice', () => {
    const sent: string[] = []
    const text = gatherText((piece) => sent.push(piece))
    for (let i = 0; i < 100; i++) {
      text.push(String(i % 10))
      vi.advanceTimersByTime(2)
      expect(i + 1 - sent.join('').length).toBeLessThanOrEqual(20)
    }
    text.flush()
    vi.advanceTimersByTime(1_000)
    expect(sent.join('')).toBe('0123456789'.repeat(10))
    expect(sent.length).toBeLessThan(10)
  })
})
