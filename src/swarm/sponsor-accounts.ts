import { ChoraleError } from '../errors.ts'
import type { Pass } from '../protocol/pass.ts'

/** What a server computed for a pass's holder in one span of a model since it first saw the pass. */
export interface ReportedUse {
  readonly modelId: string
  readonly start: number
  readonly end: number
  readonly tokens: number
}

/** What a sponsor knows of its clients' use of all servers together. */
export interface SponsorAccounts {
  /**
   * Takes a server's word. NOT checked: that it serves, that the pass is this sponsor's.
   * @returns tokens left for the pass's holder, on all servers. @throws `capacity` when there are too many entries.
   */
  report(server: string, id: string, pass: Pass, use: ReportedUse): number
  /** What a client may still use of `quota` tokens, and after how many milliseconds it may use more. */
  left(client: string, quota: number): { readonly tokens: number; readonly moreInMs: number }
  /** Tokens of all reports since the start; a token that goes through a chain of three servers counts three times. */
  readonly reported: number
}

interface Entry extends ReportedUse {
  /** Counts until then: a pass's length after the last new token. */
  readonly until: number
}

/** One client's servers, spans and passes: a long chain that fails over a few times. Stops reports from filling memory. */
const MAX_ENTRIES = 512
/** Clients with passes that are good; a sponsor gives 256 at once unless told otherwise. */
const MAX_CLIENTS = 4_096

/** Empty accounts. `now` is the wall clock. */
export function createSponsorAccounts(now: () => number): SponsorAccounts {
  const clients = new Map<string, Map<string, Entry>>()
  let reported = 0

  /** The entries of a client that count now. */
  const living = (client: string): Map<string, Entry> => {
    const entries = clients.get(client) ?? new Map<string, Entry>()
    for (const [name, { until }] of entries) if (until <= now()) entries.delete(name)
    if (entries.size === 0) clients.delete(client)
    return entries
  }
  const left = (client: string, quota: number): { readonly tokens: number; readonly moreInMs: number } => {
    const entries = [...living(client).values()]
    const first = entries.reduce((earliest, { until }) => Math.min(earliest, until), Infinity)
    return {
      tokens: Math.max(0, quota - tokensThroughModels(entries)),
      moreInMs: Number.isFinite(first) ? Math.max(0, first - now()) : 0,
    }
  }

  return {
    report: (server, id, pass, { modelId, start, end, tokens }) => {
      const { audience } = pass
      const entries = living(audience)
      const name = `${server} ${id} ${modelId} ${start} ${end}`
      const before = entries.get(name)?.tokens ?? 0
      // A server that forgot the pass counts from nothing again.
      if (tokens > before) {
        if (before === 0 && entries.size >= MAX_ENTRIES) {
          throw new ChoraleError('capacity', `client ${audience} uses ${entries.size} spans already`)
        }
        if (!clients.has(audience) && clients.size >= MAX_CLIENTS) {
          for (const client of clients.keys()) living(client)
          if (clients.size >= MAX_CLIENTS) {
            throw new ChoraleError('capacity', `this sponsor keeps ${clients.size} accounts already`)
          }
        }
        const until = now() + (pass.expiresAt - pass.issuedAt)
        entries.set(name, { modelId, start, end, tokens, until })
        clients.set(audience, entries)
        reported += tokens - before
      }
      return left(audience, pass.tokens).tokens
    },
    left,
    get reported() {
      return reported
    },
  }
}

/**
 * How many tokens went through the models, from what went through spans of them: for each model what its busiest block
 * computed. A token that passes a chain of servers is one token, and one that two servers compute is two.
 */
export function tokensThroughModels(uses: readonly ReportedUse[]): number {
  let sum = 0
  for (const model of new Set(uses.map(({ modelId }) => modelId))) {
    const changes = uses
      .filter(({ modelId }) => modelId === model)
      .flatMap(({ start, end, tokens }): [number, number][] => [
        [start, tokens],
        [end, -tokens],
      ])
      // What ends at a block ends before what begins there.
      .toSorted(([a, more], [b, less]) => a - b || more - less)
    let here = 0
    let most = 0
    for (const [, change] of changes) most = Math.max(most, (here += change))
    sum += most
  }
  return sum
}
