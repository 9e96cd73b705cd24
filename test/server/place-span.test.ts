import { describe, expect, it } from 'vitest'
import type { ServerRecord } from '../../src/routing/snapshot.ts'
import { blockThroughput } from '../../src/server/place-span.ts'
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
