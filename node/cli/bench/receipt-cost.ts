import { createHash } from 'node:crypto'
import { ChoraleError } from '../../../src/errors.ts'
import { FrameReader } from '../../../src/protocol/frame.ts'
import { MAX_OPENING_BYTES } from '../../../src/protocol/limits.ts'
import { parseSpanMessage } from '../../../src/protocol/messages.ts'
import { encodeOpening, type Opening } from '../../../src/protocol/opening.ts'
import { ackSignedBytes, parseReceiptPayload } from '../../../src/protocol/receipts.ts'
import { encodeSigned } from '../../../src/protocol/signed.ts'
import type { Digest } from '../../../src/swarm/digest.ts'
import type { Ed25519 } from '../../../src/swarm/ed25519.ts'
import { createIdentity, type Identity, signBytes } from '../../../src/swarm/identity.ts'
import { signOpening } from '../../../src/swarm/opening-guard.ts'
import { createServedReceipts } from '../../../src/swarm/serve-receipts.ts'

/** As subnets have it unless they say otherwise. */
const RECEIPT_TOKENS = 32
/** Tokens of a session that is measured. */
const TOKENS = 512
const SESSIONS = 100

/**
 * Processor time that receipts take from a server for one decoded token, milliseconds: its part of hashing, chaining,
 * signing, and checking the client's agreement as often as servers do, in the code that serves. Not wall time, because
 * WebCrypto signs on another thread. Of many sessions the quick ones count, as they do for decoding.
 */
export async function measureReceipts(
  row: Uint8Array,
  crypto: { readonly digest: Digest; readonly ed25519: Ed25519 },
): Promise<number> {
  const [server, client] = await Promise.all([createIdentity(), createIdentity()])
  const opening: Opening = {
    session: new Uint8Array(16),
    client: client.peerId,
    server: server.peerId,
    modelId: `bench@${createHash('sha256').update(row).digest('hex')}`,
    start: 0,
    end: 8,
    maxTokens: TOKENS,
    dtype: 'f32',
    issuedAt: 0,
  }
  const body = encodeOpening(opening)
  const signed = encodeSigned(await signOpening(client, body), 'opening', MAX_OPENING_BYTES)
  const script = { server, client, row, crypto, admitted: { opening, body, signed } }
  // The client's work is not the server's: its answers are made once, and said again in every session.
  const acks: Uint8Array[] = []
  await runSession(script, acks)
  await runSession(script, acks)
  const times: number[] = []
  for (let i = 0; i < SESSIONS; i++) {
    const before = process.cpuUsage()
    await runSession(script, acks)
    const { user, system } = process.cpuUsage(before)
    times.push((user + system) / 1000 / TOKENS)
  }
  return times.toSorted((a, b) => a - b)[SESSIONS / 10] ?? 0
}

interface Script {
  readonly server: Identity
  readonly client: Identity
  readonly row: Uint8Array
  readonly crypto: { readonly digest: Digest; readonly ed25519: Ed25519 }
  readonly admitted: { readonly opening: Opening; readonly body: Uint8Array; readonly signed: Uint8Array }
}

/** A whole session, each token in a turn of its own. Answers that are missing in `acks` are made. */
async function runSession(
  { server, client, row, crypto, admitted }: Script,
  acks: Uint8Array[],
): Promise<void> {
  let issued = 0
  let agreed = Promise.withResolvers<void>()
  const answer = async (sequence: number, frame: Uint8Array): Promise<void> => {
    const signature = (acks[sequence] ??= await signBytes(client, ackSignedBytes(bodyOf(frame))))
    receipts.ack({ type: 'ack', sequence, signature })
  }
  const receipts = createServedReceipts({
    identity: server,
    ...crypto,
    opening: admitted,
    facts: { engine: 'bench', numericMode: 'float' },
    everyTokens: () => RECEIPT_TOKENS,
    // The same bytes in every session.
    now: () => 0,
    post: (make) => void answer(issued++, make()),
    store: { add: () => agreed.resolve() },
    onTrouble: (error) => agreed.reject(error),
  })
  for (let seq = 0; seq < TOKENS; seq++) {
    agreed = Promise.withResolvers()
    receipts.step({ type: 'step', seq, position: seq, tokens: 1, want: 'all', deadlineMs: 1_000 }, row, row)
    await (seq % RECEIPT_TOKENS === 0 ? agreed.promise : undefined)
  }
  await receipts.finish(true)
}

/** The signed body in a RECEIPT frame. */
function bodyOf(frame: Uint8Array): Uint8Array {
  let body: Uint8Array | undefined
  const reader = new FrameReader(parseSpanMessage, frame.length)
  reader.push(frame, (_, payload) => {
    body = parseReceiptPayload(payload).body
  })
  if (body === undefined) throw new ChoraleError('internal', 'a receipt was no frame')
  return body
}
