import { bytesToHex } from '@noble/hashes/utils.js'
import { ChoraleError } from '../errors.ts'
import { decodeCborMap, encodeCbor } from '../protocol/cbor.ts'
import { bytesField } from '../protocol/fields.ts'
import { MAX_PASS_BYTES, MAX_RECEIPT_BYTES } from '../protocol/limits.ts'
import { parsePass } from '../protocol/pass.ts'
import type { VerifySignature } from '../protocol/receipt-check.ts'
import { ackSignedBytes, parseReceipt, receiptSignedBytes } from '../protocol/receipts.ts'
import { SIGNATURE_BYTES } from '../protocol/signed.ts'

/**
 * A session's last receipt as work that is paid for: signed by the server, agreed to by the client, and answered for by
 * the client's sponsor when the client has no stake.
 */
export interface WorkReceipt {
  /** Session id, lower-case hex. */
  readonly session: string
  /** Peer ids. */
  readonly server: string
  readonly client: string
  /** Peer id of whoever answers for the client on the ledger: its sponsor, or itself. */
  readonly payer: string
  readonly modelId: string
  readonly start: number
  /** Exclusive. */
  readonly end: number
  readonly engine: string
  /** Tokens of the whole session, by kind. */
  readonly prefilled: number
  readonly decoded: number
  /** Number of the last receipt. */
  readonly sequence: number
  /** Hash over all steps. */
  readonly chain: Uint8Array
  /** Ms since the epoch, by the server's clock. */
  readonly issuedAt: number
}

/** What proves it: the signed receipt, the client's signature, and the pass the client came with, if any. */
export interface WorkProof {
  readonly signed: Uint8Array
  readonly ack: Uint8Array
  readonly pass?: Uint8Array
}

/** Bytes of one proof: two envelopes, a signature and their names. */
export const MAX_WORK_PROOF_BYTES = MAX_RECEIPT_BYTES + MAX_PASS_BYTES + SIGNATURE_BYTES + 64

/** A proof as epoch reports hold it. */
export function encodeWorkProof({ signed, ack, pass }: WorkProof): Uint8Array {
  return encodeCbor({ signed, ack, ...(pass && { pass }) })
}

/**
 * Reads a proof and checks both signatures and the pass, which must hold when the receipt was issued. NOT checked: that
 * the receipt's steps are right (an audit does), and what the ledger says of those who signed.
 * @throws `protocol` or `refused` naming the field.
 */
export async function openWorkProof(bytes: Uint8Array, verify: VerifySignature): Promise<WorkReceipt> {
  const map = decodeCborMap(bytes, 'work proof')
  const signed = bytesField(map, 'signed', 1, MAX_RECEIPT_BYTES)
  const ack = bytesField(map, 'ack', SIGNATURE_BYTES, SIGNATURE_BYTES)
  const { receipt, body, signature } = parseReceipt({ signed, steps: new Uint8Array() })
  const { client, server } = receipt
  if (!receipt.final) throw wrong('final', 'the receipt is not the last one of its session')
  if (!(await verify(server, receiptSignedBytes(body), signature))) {
    throw wrong('signature', `the receipt is not signed by its server ${server}`)
  }
  if (!(await verify(client, ackSignedBytes(body), ack))) {
    throw wrong('ack', `the agreement is not signed by the client ${client}`)
  }
  let payer = client
  if (map['pass'] !== undefined) {
    const pass = parsePass(bytesField(map, 'pass', 1, MAX_PASS_BYTES), client, receipt.issuedAt)
    if (!(await verify(pass.pass.sponsor, pass.signedBytes, pass.signature))) {
      throw wrong('pass', `the pass is not signed by its sponsor ${pass.pass.sponsor}`)
    }
    payer = pass.pass.sponsor
  }
  const { chain, decoded, end, engine, issuedAt, modelId, prefilled, sequence, start } = receipt
  const session = bytesToHex(receipt.session)
  return {
    session,
    server,
    client,
    payer,
    modelId,
    start,
    end,
    engine,
    prefilled,
    decoded,
    sequence,
    chain,
    issuedAt,
  }
}

function wrong(field: string, message: string): ChoraleError {
  return new ChoraleError('protocol', message, { field })
}
