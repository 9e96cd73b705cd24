import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { createDeadlines } from '../../src/session/deadlines.ts'

describe('createDeadlines', () => {
  beforeEach(() => vi.useFakeTimers())
  afterEach(() => vi.useRealTimers())

  it('runs each at its time, whatever the order in which they were set', () => {
    const deadlines = createDeadlines()
    const began = Date.now()
    const ran: string[] = []
    for (const ms of [500, 20, 300, 20, 1_000, 0]) {
      deadlines.after(ms, () => ran.push(`${ms}@${Date.now() - began}`))
    }
    vi.advanceTimersByTime(2_000)
    expect(ran).toEqual(['0@0', '20@20', '20@20', '300@300', '500@500', '1000@1000'])
    expect(vi.getTimerCount()).toBe(0)
  })

  it('runs none that was taken back, and one that is set by another', () => {
    const deadlines = createDeadlines()
    const ran: number[] = []
    const takeBack = deadlines.after(10, () => ran.push(10))
    deadlines.after(30, () => deadlines.after(5, () => ran.push(35)))
    deadlines.after(50, () => ran.push(50))
    takeBack()
    vi.advanceTimersByTime(40)
    expect(ran).toEqual([35])
    deadlines.end()
    vi.advanceTimersByTime(100)
    expect(ran).toEqual([35, 50])
  })

  it('sets few timers for many deadlines that are taken back', () => {
    const set = vi.spyOn(globalThis, 'setTimeout')
    const deadlines = createDeadlines()
    const calls = set.mock.calls.length
    for (let token = 0; token < 1_000; token++) {
      const takeBack = deadlines.after(2_000, () => expect.unreachable())
      vi.advanceTimersByTime(5)
      takeBack()
    }
    expect(set.mock.calls.length - calls).toBeLessThan(10)
    deadlines.end()
    expect(vi.getTimerCount()).toBe(0)
  })
})
