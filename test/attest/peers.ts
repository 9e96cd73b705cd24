import { sha256 } from '@noble/hashes/sha2.js'
import { peerIdFromString } from '@libp2p/peer-id'
import type { AuditStep } from '../../src/attest/audit-store.ts'
import { type EpochReport, signReport } from '../../src/attest/epoch-report.ts'
import { encodeWorkProof } from '../../src/attest/work-receipt.ts'
import { OPENING_SIGNATURE_CONTEXT } from '../../src/protocol/ids.ts'
import { encodeOpening } from '../../src/protocol/opening.ts'
import type { StoredReceipt } from '../../src/protocol/receipt-file.ts'
import {
  ackSignedBytes,
  encodeReceiptBody,
  type Receipt,
  receiptSignedBytes,
} from '../../src/protocol/receipts.ts'
import { encodeSigned, signedBytes } from '../../src/protocol/signed.ts'
import { firstLink, foldSteps, packSteps } from '../../src/protocol/step-chain.ts'
import { toWire, type WireDtype } from '../../src/protocol/wire-dtype.ts'
import type { SpanRunner } from '../../src/session/span-runner.ts'
import { createIdentity } from '../../src/swarm/identity.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'

/** Peers with keys of their own, and sessions between them as servers and clients sign them. */

export interface Peer {
  readonly peerId: string
  sign(bytes: Uint8Array): Promise<Uint8Array>
}

/** The peer of a small number, the same every time. */
export async function peer(number: number): Promise<Peer> {
  const seed = sha256(new TextEncoder().encode(`peer ${number}`))
  const { peerId, privateKey } = await createIdentity(seed)
  return { peerId, sign: async (bytes) => await privateKey.sign(bytes) }
}

const answers = new Map<string, boolean>()

/** Checks a signature, each one once: hundreds of validators in one process would check the same. */
export async function verify(peerId: string, bytes: Uint8Array, signature: Uint8Array): Promise<boolean> {
  const key = `${peerId} ${Buffer.from(sha256(bytes)).toString('hex')} ${Buffer.from(signature).toString('hex')}`
  let answer = answers.get(key)
  if (answer === undefined) {
    const id = peerIdFromString(peerId)
    answer = id.type === 'Ed25519' && (await id.publicKey.verify(bytes, signature))
    answers.set(key, answer)
  }
  return answer
}

export interface SessionScript {
  readonly server: Peer
  readonly client: Peer
  readonly modelId: string
  readonly start: number
  readonly end: number
  readonly engine?: string
  readonly dtype?: WireDtype
  readonly issuedAt: number
  /** Any 16 bytes by number. */
  readonly id: number
  /** Steps of one receipt. */
  readonly perReceipt?: number
}

export interface SignedSession {
  readonly session: string
  readonly opening: Uint8Array
  readonly receipts: readonly StoredReceipt[]
  readonly steps: readonly AuditStep[]
  /** The last receipt as reports hold it. */
  readonly proof: Uint8Array
}

/** Steps as a server's engine computes them: the first of several tokens, then one by one. */
export async function computeSteps(
  runner: SpanRunner,
  inputs: readonly Tensor[],
  dtype: WireDtype = 'f32',
  spoil: (output: Float32Array, seq: number) => void = () => undefined,
): Promise<AuditStep[]> {
  const total = inputs.reduce((sum, { shape }) => sum + shape[0], 0)
  const session = await runner.open({ maxTokens: total })
  const steps: AuditStep[] = []
  for (const [seq, hidden] of inputs.entries()) {
    const { position } = session
    const { data } = await session.step(hidden)
    const output = data.slice()
    spoil(output, seq)
    steps.push({
      seq,
      position,
      tokens: hidden.shape[0],
      input: toWire(hidden.data, dtype).slice(),
      output: toWire(output, dtype).slice(),
    })
  }
  await session.close()
  return steps
}

/** Both sides sign a session of `steps`. */
export async function signSession(
  script: SessionScript,
  steps: readonly AuditStep[],
): Promise<SignedSession> {
  const { client, end, engine = 'reference', id, issuedAt, modelId, perReceipt = 8, server, start } = script
  const session = new Uint8Array(16)
  new DataView(session.buffer).setUint32(0, id)
  const maxTokens = steps.reduce((sum, { tokens }) => sum + tokens, 1)
  const names = { session, client: client.peerId, server: server.peerId, modelId, start, end }
  const body = encodeOpening({
    ...names,
    maxTokens,
    issuedAt,
    dtype: script.dtype ?? 'f32',
  })
  const openingSignature = await client.sign(signedBytes(OPENING_SIGNATURE_CONTEXT, body))
  const opening = encodeSigned({ body, signature: openingSignature }, 'opening', 4096)
  const receipts: StoredReceipt[] = []
  let chain = firstLink(body)
  let [prefilled, decoded, position] = [0, 0, 0]
  let proof = new Uint8Array()
  for (let at = 0; at < steps.length; at += perReceipt) {
    const part = steps.slice(at, at + perReceipt)
    const packed = packSteps(
      part.map((step) => ({
        ...step,
        input: step.tokens === 0 ? new Uint8Array(32) : sha256(step.input),
        output: step.tokens === 0 ? new Uint8Array(32) : sha256(step.output),
      })),
    )
    for (const { position: from, tokens } of part) {
      if (tokens > 1) prefilled += tokens
      else decoded += tokens
      position = from + tokens
    }
    const previous = chain
    chain = foldSteps(chain, packed)
    const receipt: Receipt = {
      ...names,
      engine,
      numericMode: 'float',
      sequence: receipts.length,
      final: at + perReceipt >= steps.length,
      position,
      prefilled,
      decoded,
      previous,
      chain,
      issuedAt: issuedAt + receipts.length,
    }
    const receiptBody = encodeReceiptBody(receipt)
    const signature = await server.sign(receiptSignedBytes(receiptBody))
    const signed = encodeSigned({ body: receiptBody, signature }, 'receipt', 4096)
    const ack = await client.sign(ackSignedBytes(receiptBody))
    receipts.push({ signed, steps: packed, ack })
    proof = encodeWorkProof({ signed, ack }) as Uint8Array<ArrayBuffer>
  }
  return { session: Buffer.from(session).toString('hex'), opening, receipts, steps, proof }
}

/** A report of a node that serves a whole model of 8 blocks and saw `seen` do so too. */
export async function report(
  reporter: Peer,
  change: Partial<EpochReport> & { readonly nodeId: number },
  seen: readonly number[] = [],
): Promise<Uint8Array> {
  return await signReport(
    {
      subnetId: 1,
      epoch: 4,
      peerId: reporter.peerId,
      modelId: 'story@1',
      blockCount: 8,
      start: 0,
      end: 8,
      sightings: seen.map((nodeId) => ({ nodeId, start: 0, end: 8, uptime: 1000 })),
      audits: [],
      receipts: [],
      ...change,
    },
    (bytes) => reporter.sign(bytes),
  )
}
