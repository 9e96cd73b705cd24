import { ChoraleError } from '../errors.ts'
import { type CborMap, decodeCborMap, encodeCbor } from './cbor.ts'
import { booleanField, bytesField, choiceField, textField, uintField } from './fields.ts'
import { RECEIPT_ACK_CONTEXT, RECEIPT_SIGNATURE_CONTEXT } from './ids.ts'
import {
  MAX_BLOCKS,
  MAX_LEASE_TOKENS,
  MAX_MODEL_ID_LENGTH,
  MAX_NAME_LENGTH,
  MAX_PEER_ID_LENGTH,
  MAX_RECEIPT_BYTES,
  MAX_RECEIPT_STEPS,
  MAX_TIME_MS,
} from './limits.ts'
import { parseSigned, type Signed, signedBytes } from './signed.ts'
import { DIGEST_BYTES, unpackSteps } from './step-chain.ts'

/** How a server computed: in floating point, or in integers that give the same bytes everywhere. */
export type NumericMode = 'float' | 'exact'

/** What a server signs about a part of a session. Counts are of the whole session so far. */
export interface Receipt {
  readonly session: Uint8Array
  readonly client: string
  readonly server: string
  readonly modelId: string
  readonly start: number
  readonly end: number
  readonly engine: string
  readonly numericMode: NumericMode
  /** Number of this receipt in its session, from 0. */
  readonly sequence: number
  /** Whether the session is over. */
  readonly final: boolean
  /** Tokens in the cache. */
  readonly position: number
  /** Tokens that came in steps of several, and those that came one at a time. */
  readonly prefilled: number
  readonly decoded: number
  /** The hash chain before and after the steps of this receipt. */
  readonly previous: Uint8Array
  readonly chain: Uint8Array
  /** Milliseconds since the epoch, by the server's clock. */
  readonly issuedAt: number
}

/** A receipt as it travels and is kept: the signed envelope, and the steps it is about, packed. */
export interface ReceiptBytes {
  readonly signed: Uint8Array
  readonly steps: Uint8Array
}

/** A parsed receipt whose signature and chain were NOT checked. */
export interface UnverifiedReceipt extends ReceiptBytes, Signed {
  readonly receipt: Receipt
}

const NUMERIC_MODES: readonly NumericMode[] = ['float', 'exact']
const MAX_SEQUENCE = 1 << 30

/** The canonical bytes of a receipt. */
export function encodeReceiptBody(receipt: Receipt): Uint8Array {
  return encodeCbor({ ...receipt })
}

/** What a server signs for a receipt's body, and what a client signs to agree. */
export function receiptSignedBytes(body: Uint8Array): Uint8Array {
  return signedBytes(RECEIPT_SIGNATURE_CONTEXT, body)
}

/** See `receiptSignedBytes`. */
export function ackSignedBytes(body: Uint8Array): Uint8Array {
  return signedBytes(RECEIPT_ACK_CONTEXT, body)
}

/** The payload of RECEIPT. */
export function encodeReceiptPayload({ signed, steps }: ReceiptBytes): Uint8Array {
  return encodeCbor({ signed, steps })
}

/** Reads the payload of RECEIPT; the result keeps no memory of it. @throws `protocol` naming the field. */
export function parseReceiptPayload(payload: Uint8Array): UnverifiedReceipt {
  const map = decodeCborMap(payload.slice(), 'receipt message')
  return parseReceipt({
    signed: bytesField(map, 'signed', 1, MAX_RECEIPT_BYTES),
    steps: bytesField(map, 'steps', 0, MAX_RECEIPT_STEPS * 76),
  })
}

/** Reads a receipt and the shape of its steps. @throws `protocol` naming the field. */
export function parseReceipt({ signed, steps }: ReceiptBytes): UnverifiedReceipt {
  const { body, signature } = parseSigned(signed, 'receipt', MAX_RECEIPT_BYTES)
  unpackSteps(steps)
  return { receipt: readReceipt(decodeCborMap(body, 'receipt body')), body, signature, signed, steps }
}

function readReceipt(map: CborMap): Receipt {
  const start = uintField(map, 'start', MAX_BLOCKS)
  const end = uintField(map, 'end', MAX_BLOCKS)
  if (end <= start) {
    throw new ChoraleError('protocol', `the receipt is of the empty span ${start}:${end}`, { field: 'end' })
  }
  return {
    session: bytesField(map, 'session', 16, 16),
    client: textField(map, 'client', MAX_PEER_ID_LENGTH),
    server: textField(map, 'server', MAX_PEER_ID_LENGTH),
    modelId: textField(map, 'modelId', MAX_MODEL_ID_LENGTH),
    start,
    end,
    engine: textField(map, 'engine', MAX_NAME_LENGTH),
    numericMode: choiceField(map, 'numericMode', NUMERIC_MODES),
    sequence: uintField(map, 'sequence', MAX_SEQUENCE),
    final: booleanField(map, 'final'),
    position: uintField(map, 'position', MAX_LEASE_TOKENS),
    prefilled: uintField(map, 'prefilled', Number.MAX_SAFE_INTEGER),
    decoded: uintField(map, 'decoded', Number.MAX_SAFE_INTEGER),
    previous: bytesField(map, 'previous', DIGEST_BYTES, DIGEST_BYTES),
    chain: bytesField(map, 'chain', DIGEST_BYTES, DIGEST_BYTES),
    issuedAt: uintField(map, 'issuedAt', MAX_TIME_MS),
  }
}
