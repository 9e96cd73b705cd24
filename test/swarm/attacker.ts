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
 * server, asks for a relay slot, publishes and lists records, asks for a pass, and opens a session with a good signature.
 */
export async function attack(target: { readonly id: string; readonly addr: string }): Promise<Loot> {
  const identity = await createIdentity()
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
    let connection: Connection
    try {
      connection = await node.dial(multiaddr(target.addr), { signal: AbortSignal.timeout(3_000) })
    } catch {
      return { connected: false, got: [] }
    }
    const acts = [
      exchange(connection, KAD_PROTOCOL, findNode(identity), () => true),
      exchange(connection, RELAY_HOP_PROTOCOL, [RESERVE], isReserved),
      framed(connection, DIRECTORY_PROTOCOL, parseDirectoryMessage, [
        encodeFrame(
          { type: 'announce' },
          await signRecord(identity, { record: serverRecord(identity.peerId, Date.now()), model: MODEL }),
        ),
      ]),
      framed(connection, DIRECTORY_PROTOCOL, parseDirectoryMessage, [encodeFrame({ type: 'list' })]),
      framed(connection, PASS_PROTOCOL, parsePassMessage, [encodeFrame({ type: 'request', models: [] })]),
      framed(connection, SPAN_PROTOCOL, parseSpanMessage, await openSession(identity, target.id)),
    ]
    return { connected: true, got: (await Promise.all(acts)).flat() }
  } finally {
    await node.stop()
  }
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
  frames: readonly Uint8Array[],
): Promise<string[]> {
  const got: string[] = []
  const reader = new FrameReader(parse, 1 << 23)
  await exchange(connection, protocol, frames, (bytes) => {
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
  messages: readonly Uint8Array[],
  isLoot: (bytes: Uint8Array) => boolean,
): Promise<string[]> {
  let stream: Stream
  try {
    stream = await connection.newStream(protocol, { signal: AbortSignal.timeout(PATIENCE_MS) })
  } catch {
    return []
  }
  return await new Promise((resolve) => {
    const done = (got: string[]): void => {
      clearTimeout(timer)
      stream.abort(new Error('done'))
      resolve(got)
    }
    const timer = setTimeout(() => done([]), PATIENCE_MS)
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
