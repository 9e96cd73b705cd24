import { describe, expect, it } from 'vitest'
import { silentLogger } from '../../src/log.ts'
import { joiningSpan, startPlacementLoop } from '../../src/server/placement-loop.ts'
import type { ServingServer } from '../../src/server/server.ts'
import type { ServerRecord } from '../../src/routing/snapshot.ts'
import type { Span } from '../../src/session/span-runner.ts'
import { serverRecord } from '../contract/directory.ts'
import { until } from '../swarm/loopback.ts'

const MODEL = { modelId: 'm', blockCount: 8 }
const NOW = 1_000_000

const record = (peerId: string, start: number, end: number, throughput = 10): ServerRecord =>
  serverRecord(peerId, NOW, { modelId: 'm', start, end, throughput, state: 'online', expiresAt: NOW + 1e9 })

/** A server that only remembers what it was told. */
function scriptedServer(span: Span) {
  const told: string[] = []
  const name = ({ start, end }: Span) => `${start}:${end}`
  let at = span
  const server = {
    get span() {
      return at
    },
    throughput: 10,
    describeMobility: () => undefined,
    intend: async (target: Span | undefined) => {
      told.push(target ? `intend ${name(target)}` : 'stay')
    },
    move: async (target: Span, { overlap }: { overlap: boolean }) => {
      told.push(`move ${name(target)}${overlap ? '' : ' draining first'}`)
      at = target
    },
  } as unknown as ServingServer
  return { server, told }
}

function loopOver(records: () => readonly ServerRecord[], maxBlocks: number, span: Span) {
  const { server, told } = scriptedServer(span)
  const loop = startPlacementLoop({
    server,
    directory: {
      servers: async () => records(),
      models: async () => [],
      announce: async () => undefined,
      withdraw: async () => undefined,
    },
    model: MODEL,
    peerId: 'me',
    maxBlocks,
    loadMs: 0,
    drainMs: 0,
    decideMs: 4,
    dwellMs: 1,
    publishMs: 2,
    random: () => 0.5,
    log: silentLogger,
    now: (() => {
      const start = performance.now()
      return () => NOW + performance.now() - start
    })(),
  })
  return { server, told, loop }
}

describe('joiningSpan', () => {
  it('begins at an end of the model when nobody serves, and takes the gap where one is', () => {
    const self = { peerId: 'me', maxBlocks: 4, now: NOW }
    expect(['0:4', '4:8']).toContain(Object.values(joiningSpan(8, [], self)).join(':'))
    expect(joiningSpan(8, [record('a', 0, 4)], self)).toEqual({ start: 4, end: 8 })
    expect(joiningSpan(8, [record('a', 0, 3), record('b', 6, 8)], self)).toEqual({ start: 3, end: 6 })
  })
})

describe('startPlacementLoop', () => {
  // Blocks 0:4 have four servers, blocks 4:8 one.
  const crowded = () => [
    record('me', 0, 4),
    record('a', 0, 4),
    record('b', 0, 4),
    record('c', 0, 4),
    record('d', 4, 8),
  ]

  it('announces the move before it moves, and makes before it breaks where both spans fit', async () => {
    const { told, loop } = loopOver(crowded, 8, { start: 0, end: 4 })
    await until(() => told.some((line) => line.startsWith('move')), 'it moves')
    await loop.stop()
    expect(told.slice(0, 2)).toEqual(['intend 4:8', 'move 4:8'])
  })

  it('lets go of the old span first where memory holds one only', async () => {
    const { told, loop } = loopOver(crowded, 4, { start: 0, end: 4 })
    await until(() => told.some((line) => line.startsWith('move')), 'it moves')
    await loop.stop()
    expect(told.slice(0, 2)).toEqual(['intend 4:8', 'move 4:8 draining first'])
  })

  it('stays when others filled the gap while it waited', async () => {
    const filled = [...crowded().slice(0, 3), record('e', 4, 8), record('f', 4, 8), record('d', 4, 8)]
    const { told, loop } = loopOver(() => (told.length > 0 ? filled : crowded()), 8, { start: 0, end: 4 })
    await until(() => told.length > 1, 'it decides again')
    await loop.stop()
    expect(told.slice(0, 2)).toEqual(['intend 4:8', 'stay'])
  })

  it('never leaves blocks that only it serves', async () => {
    let asked = 0
    const { told, loop } = loopOver(
      () => {
        asked++
        return [record('me', 0, 4), record('d', 4, 8, 1)]
      },
      8,
      { start: 0, end: 4 },
    )
    await until(() => asked > 5, 'it looked several times')
    await loop.stop()
    expect(told).toEqual([])
  })
})
