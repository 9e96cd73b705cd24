import {
  answerAudit,
  AUDIT_PROTOCOL,
  type AuditRequest,
  encodeAuditRequest,
  MAX_AUDIT_BYTES,
  MAX_AUDIT_REQUEST_BYTES,
  parseAuditRequest,
} from '../attest/audit-messages.ts'
import type { AuditStore } from '../attest/audit-store.ts'
import {
  CONTENT_PROTOCOL,
  encodeContentRequest,
  MAX_CONTENT_BYTES,
  parseContentRequest,
} from '../attest/content-messages.ts'
import { MAX_REPORT_BYTES, parseReport } from '../attest/epoch-report.ts'
import { contentHash } from '../attest/evidence.ts'
import type { FetchContent } from '../attest/proposal.ts'
import { MAX_POLICY_BYTES } from '../attest/policy/module.ts'
import { encodeReportMessage, parseReportMessage } from '../attest/report-messages.ts'
import type { ReportPool } from '../attest/report-pool.ts'
import { ChoraleError, errorCode, errorMessage, isChoraleError } from '../errors.ts'
import type { Logger } from '../log.ts'
import { attestTopic } from '../protocol/ids.ts'
import { answerBytes, askBytes } from '../swarm/bytes-exchange.ts'
import { type GossipMessage, type GossipVerdict, MAX_GOSSIP_BYTES } from '../swarm/gossip.ts'
import type { Peer } from '../swarm/peer.ts'

/** How the nodes of a subnet pass reports, manifests, fault proofs and audits between them. */

export interface AttestExchangeOptions {
  readonly peer: Peer
  readonly subnetId: number
  readonly pool: ReportPool
  readonly store: AuditStore
  /** Fault proofs that are kept longer than the pool keeps anything. */
  readonly proofOf: (hash: string) => Promise<Uint8Array | undefined>
  /** Policy programs by their SHA-256, those that are here. */
  readonly policyOf?: (sha256: string) => Promise<Uint8Array | undefined>
  /** Whether a peer is an accountant now: nobody else is shown sessions. */
  readonly mayAudit: (peerId: string) => boolean
  /** Peers of the subnet's nodes, by node id. */
  readonly peers: () => ReadonlyMap<number, string>
  /** Where to find a peer without a connection. */
  readonly addrsOf: (peerId: string) => readonly string[]
  readonly log: Logger
}

export interface AttestExchange {
  /** `AttestOptions.publish`. */
  publish(report: Uint8Array): Promise<void>
  /** Says the last report again, when others began to listen since it was said. */
  repeat(): Promise<void>
  /** Peers known to listen to reports. */
  readonly listeners: number
  /** `AttestOptions.fetch`. */
  readonly fetch: FetchContent
  /** A policy program from other nodes, those with a connection first. */
  fetchPolicy(sha256: string): Promise<Uint8Array | undefined>
  /** `AttestOptions.ask`. */
  ask(peerId: string, request: AuditRequest, signal?: AbortSignal): Promise<Uint8Array>
  /** Resolves when nothing announced is being fetched. */
  idle(): Promise<void>
  close(): Promise<void>
}

/** Announced reports fetched at once: a burst comes at the beginning of every epoch. */
const MAX_FETCHES = 4
/** Announced reports that wait: one of every node a subnet may have. */
const MAX_WAITING = 256
/** Peers asked for the same bytes, one after the other. */
const MAX_ASKED = 8
/** An accountant reads up to 32 MiB over somebody's upload. */
const AUDIT_PART_MS = 20_000
const AUDIT_TRIES = 3
/** An answer asks for ten seconds' patience at most. */
const MAX_RETRY_MS = 10_000

/** Joins the subnet's topic and answers content and audits until closed. @throws `bad_request` without gossip or gate. */
export async function startAttestExchange(options: AttestExchangeOptions): Promise<AttestExchange> {
  const { peer, pool, subnetId, log } = options
  const waiting: { readonly hash: string; readonly from: readonly string[] }[] = []
  const fetching = new Set<Promise<void>>()

  /** Asks peers one after the other until one has what was named. */
  const fetchFrom = async (
    hash: string,
    from: readonly string[],
    maxAnswerBytes: number,
    signal?: AbortSignal,
  ): Promise<Uint8Array | undefined> => {
    for (const peerId of [...new Set(from)].filter((id) => id !== peer.id).slice(0, MAX_ASKED)) {
      try {
        const bytes = await askBytes(peer, peerId, encodeContentRequest(hash), {
          protocol: CONTENT_PROTOCOL,
          addrs: options.addrsOf(peerId),
          maxAnswerBytes,
          ...(signal && { signal }),
        })
        if (bytes !== undefined && contentHash(bytes) === hash) return bytes
      } catch (error) {
        if (errorCode(error) === 'cancelled') throw error
        log.debug('content was not fetched', { peer: peerId, hash, reason: errorMessage(error) })
      }
    }
    return undefined
  }

  const add = async (bytes: Uint8Array, publisher: string): Promise<GossipVerdict> => {
    if (parseReport(bytes).report.peerId !== publisher) return 'reject'
    try {
      await pool.add(bytes)
      return 'accept'
    } catch (error) {
      // What the ledger says of nodes and epochs reaches everybody at another moment: nobody's fault.
      if (isChoraleError(error) && error.field === 'nodeId') return 'ignore'
      throw error
    }
  }

  const fetchNext = (): void => {
    while (fetching.size < MAX_FETCHES) {
      const next = waiting.shift()
      if (next === undefined) return
      const work = (async () => {
        try {
          const bytes = pool.get(next.hash) ?? (await fetchFrom(next.hash, next.from, MAX_REPORT_BYTES))
          if (bytes !== undefined) await add(bytes, next.from[0] ?? '')
        } catch (error) {
          log.debug('an announced report is wrong', { from: next.from[0], reason: errorMessage(error) })
        }
      })()
      fetching.add(work)
      void work.finally(() => {
        fetching.delete(work)
        fetchNext()
      })
    }
  }

  const take = async ({ data, publisher, forwarder }: GossipMessage): Promise<GossipVerdict> => {
    const said = parseReportMessage(data)
    if ('report' in said) return await add(said.report, publisher)
    const { hash } = said
    if (waiting.length >= MAX_WAITING) return 'ignore'
    if (pool.get(hash) === undefined) waiting.push({ hash, from: [publisher, forwarder] })
    fetchNext()
    return 'accept'
  }

  const topic = peer.gossip?.join(attestTopic(subnetId), { maxBytes: MAX_GOSSIP_BYTES, take })
  if (topic === undefined) throw new ChoraleError('bad_request', 'epoch duties need a peer that gossips')
  const content = await answerBytes(peer, {
    protocol: CONTENT_PROTOCOL,
    place: 'content',
    maxRequestBytes: 32,
    // A validator that missed an epoch's reports asks for all of them.
    perSecond: 20,
    burst: 300,
    maxAnswers: 32,
    answer: async (_, request) => {
      const hash = parseContentRequest(request)
      return pool.get(hash) ?? (await options.policyOf?.(hash)) ?? (await options.proofOf(hash))
    },
  })
  const audits = await answerBytes(peer, {
    protocol: AUDIT_PROTOCOL,
    place: 'audit',
    maxRequestBytes: MAX_AUDIT_REQUEST_BYTES,
    perSecond: 0.1,
    burst: 8,
    // Each may be 32 MiB.
    maxAnswers: 2,
    answer: async (from, request) => {
      if (!options.mayAudit(from)) throw new ChoraleError('refused', `${from} is no accountant of this epoch`)
      return await Promise.resolve(answerAudit(parseAuditRequest(request), options.store))
    },
  })

  let last: { readonly report: Uint8Array; readonly listeners: number; readonly again: number } | undefined
  const say = async (report: Uint8Array, again: number): Promise<void> => {
    last = { report, again, listeners: topic.listeners }
    await topic.publish(encodeReportMessage(report, again))
  }

  const askAudit = async (
    peerId: string,
    request: AuditRequest,
    signal: AbortSignal | undefined,
  ): Promise<Uint8Array> => {
    const answer = await askBytes(peer, peerId, encodeAuditRequest(request), {
      protocol: AUDIT_PROTOCOL,
      addrs: options.addrsOf(peerId),
      maxAnswerBytes: MAX_AUDIT_BYTES,
      timeoutMs: AUDIT_PART_MS,
      ...(signal && { signal }),
    })
    if (answer === undefined) throw new ChoraleError('not_found', `${peerId} shows nothing`)
    return answer
  }

  return {
    publish: (report) => say(report, 0),
    repeat: async () => {
      if (last && topic.listeners > last.listeners) await say(last.report, last.again + 1)
    },
    get listeners() {
      return topic.listeners
    },
    fetch: async (hash, holders, signal) => {
      const peers = options.peers()
      const first = holders.flatMap((id) => peers.get(id) ?? [])
      const nodes = new Set(peers.values())
      const others = [...peer.measures().keys()].filter((id) => nodes.has(id))
      return await fetchFrom(hash, [...first, ...others], MAX_CONTENT_BYTES, signal)
    },
    fetchPolicy: async (sha256) => {
      const nodes = [...options.peers().values()]
      const connected = peer.measures()
      const near = nodes.filter((id) => connected.has(id))
      return await fetchFrom(sha256, [...near, ...nodes], MAX_POLICY_BYTES)
    },
    ask: async (peerId, request, signal) => {
      for (let tries = 1; ; tries++) {
        try {
          return await askAudit(peerId, request, signal)
        } catch (error) {
          // What an accountant can't get counts against the server: a busy one is asked again.
          if (!isChoraleError(error) || !error.retryable || tries === AUDIT_TRIES) throw error
          await sleep(Math.min(error.retryAfterMs ?? 0, MAX_RETRY_MS), signal)
        }
      }
    },
    idle: async () => {
      while (fetching.size > 0) await Promise.all(fetching)
    },
    close: async () => {
      topic.close()
      await content.close()
      await audits.close()
    },
  }
}

/** Waits; an aborted signal ends it early, and the next question tells. */
function sleep(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', done)
      resolve()
    }
    const timer = setTimeout(done, ms)
    signal?.addEventListener('abort', done, { once: true })
    if (signal?.aborted === true) done()
  })
}
