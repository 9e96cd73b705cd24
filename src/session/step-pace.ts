import type { ServerRecord } from '../routing/snapshot.ts'

/**
 * How long each server usually takes, and so when a step that has not come back counts as stalled.
 *
 * Kept per peer over all sessions of a chain, so that a stall in a session's first step is noticed as quickly.
 */
export interface StepPace {
  /** Notes that `peer` took `ms` for a step of `rows` tokens. */
  note(peer: string, rows: number, ms: number): void
  /** Milliseconds after which a step of `rows` tokens counts as stalled. */
  patience(server: ServerRecord, rows: number): number
}

export interface StepPaceOptions {
  /** No step is given less than this (default 2 s): a busy machine pauses a process for a second now and then. */
  readonly minMs?: number
  /** Nor more (default 60 s), whatever speed a server claims: a liar must not hold a session for ever. */
  readonly maxMs?: number
  /** Least patience with a server that has not answered this client yet (default 10 s): first steps warm up. */
  readonly firstMs?: number
  /** A step may take this many times the usual (default 20): other sessions' prefill may come in between. */
  readonly slack?: number
}

/** Weight of the newest measure: about the last ten steps count. */
const NEWEST = 0.2

/** An empty record of paces. */
export function createStepPace(options: StepPaceOptions = {}): StepPace {
  const { minMs = 2_000, maxMs = 60_000, firstMs = 10_000, slack = 20 } = options
  const usual = new Map<string, number>()
  // A prefill's time grows with its rows, a single token's is mostly latency: two averages.
  const key = (peer: string, rows: number) => `${rows > 1 ? 'prefill' : 'decode'} ${peer}`
  return {
    note(peer, rows, ms) {
      const before = usual.get(key(peer, rows))
      usual.set(key(peer, rows), before === undefined ? ms / rows : before + NEWEST * (ms / rows - before))
    },
    patience(server, rows) {
      const measured = usual.get(key(server.peerId, rows))
      const claimed = server.throughput > 0 ? 1_000 / server.throughput : 0
      const least = measured === undefined ? Math.max(firstMs, minMs) : minMs
      return Math.min(Math.max(slack * (measured ?? claimed) * rows, least), Math.max(maxMs, minMs))
    },
  }
}
