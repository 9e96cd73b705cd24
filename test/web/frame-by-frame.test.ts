import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { frameByFrame } from '../../web/chat/frame-by-frame.ts'

describe('frameByFrame', () => {
  beforeEach(() => {
    vi.useFakeTimers()
    vi.stubGlobal('requestAnimationFrame', (run: () => void) => setTimeout(run, 16))
    vi.stubGlobal('cancelAnimationFrame', clearTimeout)
  })
  afterEach(() => {
    vi.useRealTimers()
    vi.unstubAllGlobals()
  })

  /** Updates in a second of a change every 4 ms, where one takes `costMs`. */
  function updatesInASecond(costMs: number): number {
    let updates = 0
    const show = frameByFrame(() => {
      updates++
      busy += costMs
    })
    let busy = 0
    const now = performance.now.bind(performance)
    const clock = vi.spyOn(performance, 'now').mockImplementation(() => now() + busy)
    for (const end = performance.now() + 1_000; performance.now() < end;) {
      show.soon()
      vi.advanceTimersByTime(4)
    }
    clock.mockRestore()
    show.end()
    return updates
  }

  it('shows a growing text about ten times a second, and one that is dear to paint less often', () => {
    const cheap = updatesInASecond(1)
    expect(cheap).toBeGreaterThanOrEqual(8)
    expect(cheap).toBeLessThanOrEqual(13)
    const dear = updatesInASecond(40)
    expect(dear).toBeGreaterThanOrEqual(2)
    expect(dear).toBeLessThanOrEqual(4)
    expect(updatesInASecond(300)).toBeGreaterThanOrEqual(1)
  })

  it('shows nothing after the end', () => {
    let updates = 0
    const show = frameByFrame(() => updates++)
    show.soon()
    show.end()
    vi.advanceTimersByTime(1_000)
    expect(updates).toBe(0)
  })
})
