import type { EngineSpan } from '../../src/engine/engine.ts'
import { createSpanHost } from '../../src/server/span-host.ts'
import { encodeOpening, type Opening } from '../../src/protocol/opening.ts'
import { signOpening } from '../../src/swarm/opening-guard.ts'
import { createPeer, type Peer, type PeerOptions } from '../../src/swarm/peer.ts'
import type { RemoteSpanTarget } from '../../src/swarm/remote-session.ts'
import { serveSpan } from '../../src/swarm/serve-span.ts'
import type { ServeSpanOptions } from '../../src/swarm/span-host.ts'
import { headlessTransports } from '../../src/swarm/transports.ts'

export const HIDDEN = 64
export const MODEL_ID = 'fake@1'
export const TCP = '/ip4/127.0.0.1/tcp/0'
export const WS = '/ip4/127.0.0.1/tcp/0/ws'

/** A peer on loopback. */
export function loopbackPeer(options: Partial<PeerOptions> = {}): Promise<Peer> {
  return createPeer({
    transports: headlessTransports(),
    privateAddresses: true,
    mode: options.listen === undefined ? 'client' : 'server',
    software: 'chorale/test',
    ...options,
  })
}

/** Serves `span` as blocks of `MODEL_ID`, without a directory. */
export async function serveFake(
  peer: Peer,
  span: EngineSpan,
  options: ServeSpanOptions & { maxSessions?: number; maxStepTokens?: number; hiddenSize?: number } = {},
) {
  const host = createSpanHost({
    span,
    modelId: MODEL_ID,
    hiddenSize: options.hiddenSize ?? HIDDEN,
    engine: 'fake',
    limits: { maxSessions: options.maxSessions ?? 8, maxSessionsPerPeer: 8, maxLeaseTokens: 1 << 20 },
    maxStepTokens: options.maxStepTokens ?? 64,
  })
  const service = await serveSpan(peer, host, options)
  return { host, service }
}

/** An OPEN that `client` signed for `server`; `more` changes what it says before it is signed. */
export async function openingOf(
  client: Peer,
  server: Peer,
  more: Partial<Opening> = {},
): Promise<{ type: 'open'; body: Uint8Array; signature: Uint8Array }> {
  const opening: Opening = {
    session: crypto.getRandomValues(new Uint8Array(16)),
    client: client.id,
    server: server.id,
    modelId: MODEL_ID,
    start: 0,
    end: 4,
    maxTokens: 8,
    dtype: 'f32',
    issuedAt: Date.now(),
    ...more,
  }
  return await signOpening(client.identity, encodeOpening(opening))
}

/** Where a client finds that server. */
export function targetOf(peer: Peer, span: EngineSpan): RemoteSpanTarget {
  return {
    peerId: peer.id,
    addrs: peer.addrs(),
    modelId: MODEL_ID,
    start: span.start,
    end: span.end,
    engine: '?',
  }
}

/** Polls until `condition` holds. */
export async function until(
  condition: () => boolean | Promise<boolean>,
  what: string,
  ms = 5_000,
): Promise<void> {
  const deadline = Date.now() + ms
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`not within ${ms} ms: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}
