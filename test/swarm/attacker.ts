import { identify } from '@libp2p/identify'
import type { Connection, Stream } from '@libp2p/interface'
import { noise } from '@libp2p/noise'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { decodeRecordList, parseDirectoryMessage } from '../../src/protocol/directory-messages.ts'
import { encodeFrame, FrameReader, type HeaderParser } from '../../src/protocol/frame.ts'
import {
  attestTopic,
  DIRECTORY_PROTOCOL,
  KAD_PROTOCOL,
  PASS_PROTOCOL,
  PROTOCOL_VERSION,
  SPAN_PROTOCOL,
} from '../../src/protocol/ids.ts'
import { parseSpanMessage } from '../../src/protocol/messages.ts'
import { encodeOpening } from '../../src/protocol/opening.ts'
import { parsePassMessage } from '../../src/protocol/pass-messages.ts'
import { createIdentity, type Identity, signRecord } from '../../src/swarm/identity.ts'
import { signOpening } from '../../src/swarm/opening-guard.ts'
import { RELAY_HOP_PROTOCOL } from '../../src/swarm/relay.ts'
import { MODEL, serverRecord } from '../contract/directory.ts'
import { FAKE_SUBNET } from '../ledger/fake-ledger.ts'
import { MODEL_ID } from './loopback.ts'

/** What somebody without stake managed to get; empty when the gate holds. */
export interface Loot {
  readonly connected: boolean
  readonly got: readonly string[]
}

/** How long an answer may take: one that comes later is no use to the attacker either. */
const PATIENCE_MS = 400

/**
 * One peer without stake: plain libp2p with a key of its own and none of this project's courtesy. It says it is a DHT
 * server, asks for a relay slot, listens to gossip, publishes and lists records, asks for a pass, and opens a session with
 * a good signature.
 */
export async function attack(
  target: { readonly id: string; readonly addr: string },
  { patienceMs = PATIENCE_MS, identity: known }: { patienceMs?: number; identity?: Identity } = {},
): Promise<Loot> {
  const identity = known ?? (await createIdentity())
  const node = await createLibp2p({
    privateKey: identity.privateKey,
    addresses: { listen: [] },
    transports: [tcp()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    services: { identify: identify() },
  })
  try {
    await node.handle(KAD_PROTOCOL, (stream) => stream.abort(new Error('only for show')))
    let news = 0
    await node.handle(GOSSIP_PROTOCOL, (stream) => {
      stream.addEventListener('message', ({ data }) => {
        if (hasNews(data.subarray())) news++
      })
    })
    let connection: Connection
    try {
      connection = await node.dial(multiaddr(target.addr), { signal: AbortSignal.timeout(3_000) })
    } catch {
      return { connected: false, got: [] }
    }
    const acts = [
      exchange(connection, KAD_PROTOCOL, patienceMs, findNode(identity), () => true),
      exchange(connection, RELAY_HOP_PROTOCOL, patienceMs, [RESERVE], isReserved),
      exchange(connection, GOSSIP_PROTOCOL, patienceMs, [SUBSCRIBE], () => true),
      framed(connection, DIRECTORY_PROTOCOL, parseDirectoryMessage, patienceMs, [
        encodeFrame(
          { type: 'announce' },
          await signRecord(identity, { record: serverRecord(identity.peerId, Date.now()), model: MODEL }),
        ),
      ]),
      framed(connection, DIRECTORY_PROTOCOL, parseDirectoryMessage, patienceMs, [
        encodeFrame({ type: 'list' }),
      ]),
      framed(connection, PASS_PROTOCOL, parsePassMessage, patienceMs, [
        encodeFrame({ type: 'request', models: [] }),
      ]),
      framed(connection, SPAN_PROTOCOL, parseSpanMessage, patienceMs, await openSession(identity, target.id)),
    ]
    // It stays as long as it may: connections are what a crowd takes from others.
    const stays = new Promise((resolve) => setTimeout(resolve, patienceMs))
    const got = (await Promise.all(acts)).flat()
    await stays
    return { connected: true, got: news > 0 ? [...got, GOSSIP_PROTOCOL] : got }
  } finally {
    await node.stop()
  }
}

/** What gossipsub speaks. */
export const GOSSIP_PROTOCOL = '/meshsub/1.2.0'
/** A subscription to the topic of epoch reports, length-prefixed. */
const SUBSCRIBE = ((topic: Uint8Array): Uint8Array => {
  const option = [0x08, 0x01, 0x12, topic.length, ...topic]
  return Uint8Array.of(option.length + 2, 0x0a, option.length, ...option)
})(new TextEncoder().encode(attestTopic(FAKE_SUBNET)))

/** Whether a length-prefixed message of gossipsub holds more than the sender's subscriptions (field 1). */
function hasNews(bytes: Uint8Array): boolean {
  // One byte is length enough for what is no news, and for each subscription.
  let at = 1
  while (bytes[0]! < 128 && bytes[at] === 0x0a) at += 2 + bytes[at + 1]!
  return at < bytes.length
}

/** RESERVE, length-prefixed. */
const RESERVE = Uint8Array.of(2, 0x08, 0x00)

/** STATUS with 100 (OK): field 5 of the answer. */
function isReserved(answer: Uint8Array): boolean {
  return answer.some((byte, i) => byte === 0x28 && answer[i + 1] === 0x64)
}

/** FIND_NODE for its own id, length-prefixed. */
function findNode(identity: Identity): Uint8Array[] {
  const key = identity.privateKey.publicKey.toMultihash().bytes
  const message = Uint8Array.of(0x08, 0x04, 0x12, key.length, ...key)
  return [Uint8Array.of(message.length, ...message)]
}

async function openSession(identity: Identity, server: string): Promise<Uint8Array[]> {
  const body = encodeOpening({
    session: crypto.getRandomValues(new Uint8Array(16)),
    client: identity.peerId,
    server,
    modelId: MODEL_ID,
    start: 0,
    end: 4,
    maxTokens: 8,
    dtype: 'f32',
    issuedAt: Date.now(),
  })
  return [
    encodeFrame({
      type: 'hello',
      version: PROTOCOL_VERSION,
      role: 'client',
      software: 'attacker',
      dtypes: ['f32'],
    }),
    encodeFrame(await signOpening(identity, body)),
  ]
}

const WORTHLESS = new Set(['refused', 'error', 'ping', 'pong'])

/** Frames sent over a protocol, and the types of the answers that are worth something. */
async function framed(
  connection: Connection,
  protocol: string,
  parse: HeaderParser<{ readonly type: string }>,
  patienceMs: number,
  frames: readonly Uint8Array[],
): Promise<string[]> {
  const got: string[] = []
  const reader = new FrameReader(parse, 1 << 23)
  await exchange(connection, protocol, patienceMs, frames, (bytes) => {
    reader.push(bytes, ({ type }, payload) => {
      if (type === 'records' && decodeRecordList(payload).length === 0) return
      if (!WORTHLESS.has(type)) got.push(`${protocol} ${type}`)
    })
    return false
  })
  return got
}

/** Sends bytes; whether `isLoot` held for what came back in time. */
async function exchange(
  connection: Connection,
  protocol: string,
  patienceMs: number,
  messages: readonly Uint8Array[],
  isLoot: (bytes: Uint8Array) => boolean,
): Promise<string[]> {
  let stream: Stream
  try {
    stream = await connection.newStream(protocol, { signal: AbortSignal.timeout(patienceMs) })
  } catch {
    return []
  }
  return await new Promise((resolve) => {
    const done = (got: string[]): void => {
      clearTimeout(timer)
      // First: to abort it is to close it, and that comes here again.
      resolve(got)
      stream.abort(new Error('done'))
    }
    const timer = setTimeout(() => done([]), patienceMs)
    stream.addEventListener('message', ({ data }) => {
      if (isLoot(data.subarray())) done([protocol])
    })
    stream.addEventListener('close', () => done([]))
    stream.addEventListener('remoteCloseWrite', () => done([]))
    try {
      for (const message of messages) stream.send(message)
    } catch {
      done([])
    }
  })
}
