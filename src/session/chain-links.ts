import type { ServerRecord } from '../routing/snapshot.ts'
import type { Hop } from './chain-hop.ts'
import type { PushLinks } from './span-runner.ts'

/** Pairs of servers that could not reach each other, as far as one client noticed. */
export interface LinkMemory {
  readonly failed: Set<string>
}

/** Pairs are cheap to forget: at worst a link is tried once more. */
const MAX_REMEMBERED = 4_096

/** An empty memory. */
export function createLinkMemory(): LinkMemory {
  return { failed: new Set() }
}

/** Remembers which hops' servers did not reach the next one. */
export function rememberLinks({ failed }: LinkMemory, hops: readonly Hop[]): void {
  for (const [i, hop] of hops.entries()) {
    const next = hops[i + 1]
    if (!next || hop.linked || !canPush(hop, next)) continue
    if (failed.size >= MAX_REMEMBERED) failed.clear()
    failed.add(pair(hop.server, next.server))
  }
}

/** How the servers of a route, opened together, are to be linked: one entry a server. */
export function planLinks(memory: LinkMemory, servers: readonly ServerRecord[]): PushLinks[] {
  const tokens = servers.map(() => crypto.getRandomValues(new Uint8Array(16)))
  return servers.map((server, i) => {
    const before = servers[i - 1]
    const next = servers[i + 1]
    return {
      ...(before && { accept: { token: tokens[i - 1]!, peerId: before.peerId } }),
      ...(next && canReach(memory, server, next) && { next: towards(next, tokens[i]!) }),
    }
  })
}

/** Links hops [from - 1, to] anew where one side is new, after hops [from, to) took others' places. */
export function relinkHops(memory: LinkMemory, hops: readonly Hop[], from: number, to: number): void {
  for (const i of new Set([from - 1, to - 1])) {
    const hop = hops[i]
    const next = hops[i + 1]
    if (!hop || !next) continue
    hop.linked = false
    if (!canPush(hop, next) || !canReach(memory, hop.server, next.server)) continue
    const token = crypto.getRandomValues(new Uint8Array(16))
    next.link({ accept: { token, peerId: hop.server.peerId } })
    hop.link({ next: towards(next.server, token) })
  }
}

function towards(server: ServerRecord, token: Uint8Array): NonNullable<PushLinks['next']> {
  return { token, peerId: server.peerId, addrs: server.addrs }
}

/** A server without addresses is behind a NAT or in a tab: only who dialled it can speak to it. */
function canReach({ failed }: LinkMemory, from: ServerRecord, to: ServerRecord): boolean {
  return to.addrs.length > 0 && !failed.has(pair(from, to))
}

function canPush(hop: Hop, next: Hop): boolean {
  return hop.push !== undefined && next.push !== undefined && hop.failure === undefined && !next.failure
}

function pair(from: ServerRecord, to: ServerRecord): string {
  return `${from.peerId}>${to.peerId}`
}
