import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { noChainError } from '../../src/routing/no-chain.ts'
import { planReplacement } from '../../src/routing/replacement.ts'
import type { Route, RouteRequest } from '../../src/routing/route.ts'
import { findRoute, serverCost } from '../../src/routing/route.ts'
import type { ServerRecord, ServerState, Snapshot } from '../../src/routing/snapshot.ts'

const NOW = 1_000_000

function server(record: Partial<ServerRecord> & { start: number; end: number }): ServerRecord {
  return {
    peerId: `p${record.start}-${record.end}`,
    addrs: [],
    modelId: 'm',
    state: 'online',
    throughput: 100,
    freeKvTokens: 1000,
    sessions: 0,
    engine: 'fake',
    precision: 'f32',
    version: '0',
    issuedAt: 0,
    expiresAt: NOW + 60_000,
    ...record,
  }
}

function snapshotOf(
  servers: readonly ServerRecord[],
  blockCount = 6,
  more: Partial<Snapshot> = {},
): Snapshot {
  return { blockCount, servers, measures: new Map(), bannedUntil: new Map(), now: NOW, ...more }
}

const whole = (blockCount: number): RouteRequest => ({ start: 0, end: blockCount, maxTokens: 100 })

/** Small swarms with every kind of unusable server among them. */
const swarms = fc
  .record({
    blockCount: fc.integer({ min: 1, max: 7 }),
    servers: fc.array(
      fc.record({
        start: fc.nat(6),
        length: fc.integer({ min: 1, max: 4 }),
        throughput: fc.constantFrom(0, 10, 20, 100, 1000),
        sessions: fc.nat(3),
        freeKvTokens: fc.constantFrom(99, 100, 5000),
        state: fc.constantFrom<ServerState>('online', 'online', 'online', 'joining', 'draining', 'offline'),
        expiresIn: fc.constantFrom(-1, 0, 1000, 1000, 1000),
        banFor: fc.constantFrom(undefined, undefined, undefined, -5, 5),
        rttMs: fc.constantFrom(undefined, 1, 30, 200),
      }),
      { maxLength: 9 },
    ),
  })
  .map(({ blockCount, servers }) => {
    const records = servers.map(({ start, length, expiresIn, banFor: _ban, rttMs: _rtt, ...rest }, i) =>
      server({
        ...rest,
        peerId: `p${i}`,
        start: start % blockCount,
        end: Math.min((start % blockCount) + length, blockCount),
        expiresAt: NOW + expiresIn,
      }),
    )
    return snapshotOf(records, blockCount, {
      measures: new Map(servers.map(({ rttMs }, i) => [`p${i}`, { rttMs }])),
      bannedUntil: new Map(
        servers.flatMap(({ banFor }, i) => (banFor === undefined ? [] : [[`p${i}`, NOW + banFor] as const])),
      ),
    })
  })

function usable(snapshot: Snapshot, maxTokens = 100): ServerRecord[] {
  return snapshot.servers.filter(
    (record) =>
      record.state === 'online' &&
      record.expiresAt > NOW &&
      record.freeKvTokens >= maxTokens &&
      (snapshot.bannedUntil.get(record.peerId) ?? 0) <= NOW,
  )
}

/** The cheapest tiling by trying all. */
function bruteForce(snapshot: Snapshot, request: RouteRequest, from = request.start): number {
  if (from === request.end) return 0
  let best = Infinity
  for (const record of usable(snapshot)) {
    if (record.start !== from || record.end > request.end) continue
    best = Math.min(best, serverCost(snapshot, request, record) + bruteForce(snapshot, request, record.end))
  }
  return best
}

function expectTiling(route: Route, start: number, end: number): void {
  expect(route.servers[0]?.start).toBe(start)
  expect(route.servers.at(-1)?.end).toBe(end)
  for (const [i, record] of route.servers.entries()) {
    if (i > 0) expect(record.start).toBe(route.servers[i - 1]?.end)
  }
}

describe('findRoute', () => {
  it('is a valid tiling of usable servers at the least cost, or none exists', () => {
    fc.assert(
      fc.property(swarms, (snapshot) => {
        const request = whole(snapshot.blockCount)
        const found = findRoute(snapshot, request)
        const best = bruteForce(snapshot, request)
        if (found.kind === 'none') {
          expect(best).toBe(Infinity)
          return
        }
        expectTiling(found, 0, snapshot.blockCount)
        for (const record of found.servers) expect(usable(snapshot)).toContain(record)
        expect(found.costMs).toBeCloseTo(best, 6)
      }),
      { numRuns: 2000 },
    )
  })

  it('with a prompt: the least of time to the first token and answer, the slowest server of the pipeline included', () => {
    const request = (blockCount: number) => ({ ...whole(blockCount), promptTokens: 500, answerTokens: 20 })
    /** Every tiling's cost: sums of its servers, and seven more pieces through the slowest of them. */
    const least = (snapshot: Snapshot, from = 0, sum = 0, slowest = 0): number => {
      if (from === snapshot.blockCount) return sum + 7 * slowest
      let best = Infinity
      for (const record of usable(snapshot)) {
        if (record.start !== from || record.end > snapshot.blockCount) continue
        const cost = sum + serverCost(snapshot, request(snapshot.blockCount), record)
        // 64 tokens a piece; who does not say how fast it reads is taken to read four times as fast as it answers.
        const decodeMs = record.throughput > 0 ? 1_000 / record.throughput : 1_000
        const piece = 64 * (record.prefillThroughput ? 1_000 / record.prefillThroughput : decodeMs / 4)
        best = Math.min(best, least(snapshot, record.end, cost, Math.max(slowest, piece)))
      }
      return best
    }
    const reading = fc.array(fc.constantFrom(undefined, 50, 400, 3_000), { minLength: 9, maxLength: 9 })
    fc.assert(
      fc.property(swarms, reading, (drawn, speeds) => {
        const servers = drawn.servers.map((record, i) => {
          const prefillThroughput = speeds[i]
          return prefillThroughput === undefined ? record : { ...record, prefillThroughput }
        })
        const snapshot = { ...drawn, servers }
        const found = findRoute(snapshot, request(snapshot.blockCount))
        const best = least(snapshot)
        if (found.kind === 'none') expect(best).toBe(Infinity)
        else expect(found.costMs).toBeCloseTo(best, 6)
      }),
      { numRuns: 2_000 },
    )
  })

  it('names exactly the blocks without a usable server', () => {
    fc.assert(
      fc.property(swarms, (snapshot) => {
        const found = findRoute(snapshot, whole(snapshot.blockCount))
        if (found.kind === 'route') return
        const named = new Set(
          found.missing.flatMap(({ start, end }) => Array.from({ length: end - start }, (_, i) => start + i)),
        )
        for (let block = 0; block < snapshot.blockCount; block++) {
          const held = usable(snapshot).some((record) => record.start <= block && block < record.end)
          expect(named.has(block)).toBe(!held)
        }
        for (const [i, span] of found.missing.entries()) {
          if (i > 0) expect(span.start).toBeGreaterThan(found.missing[i - 1]!.end)
        }
      }),
      { numRuns: 2000 },
    )
  })

  it('with spread: still valid, dearer by at most the spread, the same for the same seed', () => {
    fc.assert(
      fc.property(swarms, fc.nat(), (snapshot, seed) => {
        const request = { ...whole(snapshot.blockCount), seed, spread: 0.2 }
        const found = findRoute(snapshot, request)
        expect(findRoute(snapshot, request)).toEqual(found)
        if (found.kind === 'none') return
        expectTiling(found, 0, snapshot.blockCount)
        const cost = found.servers.reduce((sum, record) => sum + serverCost(snapshot, request, record), 0)
        expect(cost).toBeLessThanOrEqual(bruteForce(snapshot, request) * 1.2 + 1e-6)
      }),
      { numRuns: 500 },
    )
  })

  it('draws among equal servers by the seed', () => {
    const twins = ['x', 'y'].map((peerId) => server({ start: 0, end: 6, peerId }))
    const drawn = new Set<string>()
    for (let seed = 0; seed < 32; seed++) {
      const found = findRoute(snapshotOf(twins), { ...whole(6), seed })
      if (found.kind === 'route') drawn.add(found.servers[0]!.peerId)
    }
    expect(drawn).toEqual(new Set(['x', 'y']))
  })

  it('prefers idle and near servers', () => {
    const busy = server({ start: 0, end: 6, peerId: 'busy', sessions: 4 })
    const idle = server({ start: 0, end: 6, peerId: 'idle' })
    expect(findRoute(snapshotOf([busy, idle]), whole(6))).toMatchObject({ servers: [{ peerId: 'idle' }] })
    const measures = new Map([['idle', { rttMs: 500 }]])
    expect(findRoute(snapshotOf([busy, idle], 6, { measures }), whole(6))).toMatchObject({
      servers: [{ peerId: 'busy' }],
    })
  })

  it('tells spans that overlap but do not meet from missing blocks, and counts who was left out', () => {
    const overlapping = [server({ start: 0, end: 4 }), server({ start: 3, end: 6 })]
    const found = findRoute(snapshotOf(overlapping), whole(6))
    expect(found).toMatchObject({ kind: 'none', missing: [] })
    if (found.kind === 'none') {
      expect(noChainError('m', found, { maxTokens: 1, full: false }).message).toMatch(/spans don't meet/)
    }
    const full = [server({ start: 0, end: 6, freeKvTokens: 5 })]
    expect(findRoute(snapshotOf(full), whole(6))).toMatchObject({
      kind: 'none',
      missing: [{ start: 0, end: 6 }],
      skipped: { full: 1, banned: 0 },
    })
  })
})

describe('planReplacement', () => {
  const chain = [
    { start: 0, end: 2 },
    { start: 2, end: 4 },
    { start: 4, end: 6 },
  ]
  const plan = (servers: readonly ServerRecord[], failed: number) =>
    planReplacement(chain, failed, snapshotOf(servers), { maxTokens: 10 })

  it('replaces the failed hop alone when that is possible, even by a dearer route', () => {
    const servers = [server({ start: 2, end: 4, throughput: 1 }), server({ start: 0, end: 6 })]
    expect(plan(servers, 1)).toMatchObject({ from: 1, to: 2 })
  })

  it('takes in as few neighbours as it must', () => {
    expect(plan([server({ start: 2, end: 6 })], 1)).toMatchObject({ from: 1, to: 3 })
    expect(plan([server({ start: 0, end: 4 })], 1)).toMatchObject({ from: 0, to: 2 })
    expect(plan([server({ start: 0, end: 3 }), server({ start: 3, end: 6 })], 1)).toMatchObject({
      from: 0,
      to: 3,
    })
  })

  it('says which blocks of the whole chain nobody holds', () => {
    const servers = [server({ start: 0, end: 2 }), server({ start: 4, end: 6 })]
    expect(plan(servers, 1)).toMatchObject({ kind: 'none', missing: [{ start: 2, end: 4 }] })
  })

  it('covers exactly the hops it replaces, the failed one among them', () => {
    fc.assert(
      fc.property(swarms, fc.nat(5), (snapshot, pick) => {
        const cuts = [...new Set([0, ...snapshot.servers.map(({ end }) => end), snapshot.blockCount])].sort(
          (a, b) => a - b,
        )
        const hops = cuts.slice(1).map((end, i) => ({ start: cuts[i]!, end }))
        const failed = pick % hops.length
        const found = planReplacement(hops, failed, snapshot, { maxTokens: 100 })
        if (found.kind === 'none') {
          expect(findRoute(snapshot, whole(snapshot.blockCount)).kind).toBe('none')
          return
        }
        expect(found.from).toBeLessThanOrEqual(failed)
        expect(found.to).toBeGreaterThan(failed)
        expectTiling(found.route, hops[found.from]!.start, hops[found.to - 1]!.end)
      }),
      { numRuns: 500 },
    )
  })
})
