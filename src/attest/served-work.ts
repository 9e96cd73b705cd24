import type { SubnetNode } from '../ledger/ledger.ts'
import { parseReceipt } from '../protocol/receipts.ts'
import type { ServerRecord } from '../routing/snapshot.ts'
import type { AuditStore } from './audit-store.ts'
import { MAX_AUDIT_RECEIPTS } from './audit-messages.ts'
import { MAX_REPORT_RECEIPTS, type Sighting } from './epoch-report.ts'
import type { Observations } from './run-attest.ts'
import type { LedgerView } from './snapshot.ts'
import { encodeWorkProof } from './work-receipt.ts'

/** What a node gathers during an epoch for its report: the work it can prove, and whom it saw. */

/**
 * Proofs of the sessions that ended in [from, until) (ms since the epoch), were agreed to by their clients and are kept
 * whole, so that an audit can be answered: the longest ones when there are more than a report holds.
 * @param passOf the pass that a client without stake came with.
 */
export function workProofs(
  store: AuditStore,
  { from, until }: { readonly from: number; readonly until: number },
  passOf: (client: string) => Uint8Array | undefined = () => undefined,
): readonly Uint8Array[] {
  const proofs = store.sessions().flatMap((session) => {
    const kept = store.get(session)
    const last = kept?.receipts.at(-1)
    if (kept === undefined || last?.ack === undefined || !kept.complete) return []
    const { client, final, issuedAt, position, sequence } = parseReceipt(last).receipt
    if (!final || issuedAt < from || issuedAt >= until) return []
    if (sequence + 1 !== kept.receipts.length || sequence >= MAX_AUDIT_RECEIPTS) return []
    const pass = passOf(client)
    return [
      {
        tokens: position,
        proof: encodeWorkProof({ signed: last.signed, ack: last.ack, ...(pass && { pass }) }),
      },
    ]
  })
  return proofs
    .toSorted((a, b) => b.tokens - a.tokens)
    .slice(0, MAX_REPORT_RECEIPTS)
    .map(({ proof }) => proof)
}

/** Looks at who serves what, many in an epoch, and what they add up to. */
export interface SightingLog {
  /** One look: the nodes that are there and what they serve. Looks at equal distances weigh equally. */
  look(epoch: number, present: readonly Omit<Sighting, 'uptime'>[]): void
  /**
   * By node id: the span seen most often (the later one on a tie), and at how many of the looks, of 1000; undefined for
   * an epoch without a look, as before this process started.
   */
  sightings(epoch: number): readonly Sighting[] | undefined
}

/** The ledger's nodes among the servers of a model, each with the longest span it announces. */
export function presentNodes(
  records: readonly Pick<ServerRecord, 'peerId' | 'modelId' | 'start' | 'end' | 'state'>[],
  nodes: readonly Pick<SubnetNode, 'id' | 'peerId'>[],
  modelId: string,
): readonly Omit<Sighting, 'uptime'>[] {
  const ids = new Map(nodes.map(({ id, peerId }) => [peerId, id]))
  const longest = new Map<number, Omit<Sighting, 'uptime'>>()
  for (const { end, modelId: served, peerId, start, state } of records) {
    const nodeId = ids.get(peerId)
    if (nodeId === undefined || served !== modelId || state === 'offline' || state === 'joining') continue
    const known = longest.get(nodeId)
    if (known === undefined || end - start > known.end - known.start)
      longest.set(nodeId, { nodeId, start, end })
  }
  return [...longest.values()]
}

export interface ObserverOptions {
  readonly peerId: string
  /** What this node serves; start and end 0 for nothing. */
  readonly served: () => Pick<Observations, 'modelId' | 'blockCount' | 'start' | 'end'>
  readonly log: SightingLog
  readonly store: AuditStore
  /** The pass that a client without stake came with. */
  readonly passOf?: (client: string) => Uint8Array | undefined
}

/** `AttestOptions.observe` of a server: nothing about epochs that it was not there for. */
export function createObserver(
  options: ObserverOptions,
): (view: Pick<LedgerView, 'epoch' | 'from' | 'until'>) => Promise<Observations | undefined> {
  const { log, passOf, peerId, served, store } = options
  return async (view) => {
    const sightings = log.sightings(view.epoch)
    if (sightings === undefined) return undefined
    return await Promise.resolve({
      peerId,
      ...served(),
      sightings,
      receipts: workProofs(store, view, passOf),
    })
  }
}

/** A subnet has at most so many nodes. */
const MAX_NODES = 256
/** Blocks of an epoch are at most a few hundred, and one look each is enough. */
const KEPT_EPOCHS = 3

/** An empty log; it keeps three epochs. */
export function createSightingLog(): SightingLog {
  const epochs = new Map<number, { looks: number; seen: Map<number, Map<string, number>> }>()
  return {
    look(epoch, present) {
      const known = epochs.get(epoch) ?? { looks: 0, seen: new Map() }
      epochs.set(epoch, known)
      for (const old of epochs.keys()) if (old <= epoch - KEPT_EPOCHS) epochs.delete(old)
      known.looks++
      for (const { nodeId, start, end } of present.slice(0, MAX_NODES)) {
        if (start >= end) continue
        const spans = known.seen.get(nodeId) ?? new Map<string, number>()
        known.seen.set(nodeId, spans)
        const key = `${start} ${end}`
        const count = (spans.get(key) ?? 0) + 1
        // The latest comes last, so that it wins a tie.
        spans.delete(key)
        spans.set(key, count)
      }
    },
    sightings(epoch) {
      const known = epochs.get(epoch)
      if (known === undefined) return undefined
      return [...known.seen]
        .map(([nodeId, spans]): Sighting => {
          const all = [...spans.values()].reduce((sum, count) => sum + count, 0)
          const [span] = [...spans].reduce((best, next) => (next[1] >= best[1] ? next : best))
          const [start, end] = span.split(' ').map(Number) as [number, number]
          return { nodeId, start, end, uptime: Math.floor((Math.min(all, known.looks) * 1000) / known.looks) }
        })
        .toSorted((a, b) => a.nodeId - b.nodeId)
    },
  }
}
