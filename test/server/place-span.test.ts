import { describe, expect, it } from 'vitest'
import type { ServerRecord } from '../../src/routing/snapshot.ts'
import { blockThroughput, weakestWindow } from '../../src/server/place-span.ts'
import { serverRecord } from '../contract/directory.ts'

const server = (start: number, end: number, throughput: number, state: ServerRecord['state'] = 'online') =>
  serverRecord('p', 0, { start, end, throughput, state })

describe('blockThroughput', () => {
  it('adds up the servers of each block and leaves out those that go', () => {
    const servers = [
      server(0, 2, 10),
      server(1, 3, 5),
      server(0, 4, 99, 'draining'),
      server(0, 4, 99, 'offline'),
    ]
    expect(blockThroughput(4, servers)).toEqual([10, 15, 5, 0])
  })

  it('counts a server that is still loading a little', () => {
    expect(blockThroughput(2, [server(0, 1, 0, 'joining')])[0]).toBeGreaterThan(0)
  })

  it('is not thrown off by a record beyond the model', () => {
    expect(blockThroughput(2, [server(0, 9, 1)])).toEqual([1, 1])
  })
})

describe('weakestWindow', () => {
  it('starts at the first block of an empty network and fills gaps one after the other', () => {
    const servers: ServerRecord[] = []
    const spans: string[] = []
    for (let i = 0; i < 3; i++) {
      const span = weakestWindow(8, 3, servers)
      spans.push(`${span.start}:${span.end}`)
      servers.push(server(span.start, span.end, 10))
    }
    expect(spans).toEqual(['0:3', '3:6', '5:8'])
  })

  it('goes where the weakest block is, then where the second weakest is', () => {
    expect(weakestWindow(6, 2, [server(0, 6, 10), server(0, 3, 10), server(4, 6, 3)])).toEqual({
      start: 3,
      end: 5,
    })
  })

  it('a window as large as the model is the model', () => {
    expect(weakestWindow(4, 9, [])).toEqual({ start: 0, end: 4 })
  })
})
