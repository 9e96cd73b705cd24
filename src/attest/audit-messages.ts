import { bytesToHex, hexToBytes } from '@noble/hashes/utils.js'
import { ChoraleError } from '../errors.ts'
import { type CborMap, decodeCborMap, encodeCbor } from '../protocol/cbor.ts'
import { booleanField, bytesField, textField, uintField } from '../protocol/fields.ts'
import { MAX_OPENING_BYTES, MAX_RECEIPT_BYTES, MAX_RECEIPT_STEPS } from '../protocol/limits.ts'
import type { StoredReceipt } from '../protocol/receipt-file.ts'
import { SIGNATURE_BYTES } from '../protocol/signed.ts'
import type { AuditStore } from './audit-store.ts'

/**
 * AUDIT: an accountant asks a server for a session's evidence. Bytes only.
 *
 * The answer holds the opening and every receipt of the session, whose packed digests chain to the one that the client
 * agreed to, and the bytes of the first steps up to a receipt of the accountant's choice.
 */

/** One request and one answer a stream. */
export const AUDIT_PROTOCOL = '/chorale/audit/1'

export interface AuditRequest {
  /** Session id, lower-case hex. */
  readonly session: string
  /** Number of the receipt up to whose steps the bytes are wanted. */
  readonly through: number
}

export interface AuditAnswer {
  readonly opening: Uint8Array
  /** By sequence, from 0; the last is the final one. */
  readonly receipts: readonly StoredReceipt[]
  /** Bytes of the first steps that are no rollbacks, in order. */
  readonly steps: readonly { readonly input: Uint8Array; readonly output: Uint8Array }[]
}

/** Bytes of a request: an id and a number. */
export const MAX_AUDIT_REQUEST_BYTES = 256
/** Bytes of an answer: what an accountant keeps in memory at once, and a fault proof's size. */
export const MAX_AUDIT_BYTES = 32 * 2 ** 20
/** At 32 tokens a receipt: sessions of 65,536 decoded tokens. */
export const MAX_AUDIT_RECEIPTS = 2_048
const MAX_AUDIT_STEPS = 65_536
const MAX_REASON_LENGTH = 200

export function encodeAuditRequest({ session, through }: AuditRequest): Uint8Array {
  return encodeCbor({ session: hexToBytes(session), through })
}

/** @throws `protocol` naming the field. */
export function parseAuditRequest(bytes: Uint8Array): AuditRequest {
  if (bytes.length > MAX_AUDIT_REQUEST_BYTES) {
    throw new ChoraleError(
      'protocol',
      `audit request of ${bytes.length} bytes (at most ${MAX_AUDIT_REQUEST_BYTES})`,
    )
  }
  const map = decodeCborMap(bytes, 'audit request')
  return {
    session: bytesToHex(bytesField(map, 'session', 16, 16)),
    through: uintField(map, 'through', MAX_AUDIT_RECEIPTS),
  }
}

/**
 * What a server answers, from what it kept: the evidence, or why there is none. NOT checked: that the peer is an
 * accountant of this epoch; callers do, before they read the request.
 */
export function answerAudit({ session, through }: AuditRequest, store: AuditStore): Uint8Array {
  const kept = store.get(session)
  if (kept === undefined) return encodeRefusal(`session ${session} is not kept any more`)
  const receipts = kept.receipts
  const wanted = receipts[Math.min(through, receipts.length - 1)]
  if (wanted === undefined) return encodeRefusal(`session ${session} has no receipts`)
  const lastSeq = lastStepOf(receipts, Math.min(through, receipts.length - 1))
  const steps = kept.steps.filter(({ seq, tokens }) => tokens > 0 && seq <= lastSeq)
  if (!kept.complete && (kept.steps.at(-1)?.seq ?? -1) < lastSeq) {
    return encodeRefusal(`session ${session} was longer than what is kept of it`)
  }
  const bytes = encodeAuditAnswer({ opening: kept.opening, receipts, steps })
  if (bytes.length > MAX_AUDIT_BYTES) {
    return encodeRefusal(
      `the evidence has ${bytes.length} bytes (at most ${MAX_AUDIT_BYTES}): ask for fewer steps`,
    )
  }
  return bytes
}

/** Number of the last step that receipts 0 to `through` are about; -1 for none. */
function lastStepOf(receipts: readonly StoredReceipt[], through: number): number {
  for (let i = through; i >= 0; i--) {
    const { steps } = receipts[i]!
    if (steps.length === 0) continue
    return new DataView(steps.buffer, steps.byteOffset + steps.length - STEP_BYTES).getUint32(0, true)
  }
  return -1
}

/** Of one packed step (`protocol/step-chain.ts`), whose number comes first. */
const STEP_BYTES = 76

function encodeRefusal(reason: string): Uint8Array {
  return encodeCbor({ ok: false, reason: reason.slice(0, MAX_REASON_LENGTH) })
}

/** The canonical bytes of an answer: a fault proof holds them as they are. */
export function encodeAuditAnswer({ opening, receipts, steps }: AuditAnswer): Uint8Array {
  const lengths = new Uint8Array(steps.length * 8)
  const view = new DataView(lengths.buffer)
  let size = 0
  for (const [i, { input, output }] of steps.entries()) {
    view.setUint32(i * 8, input.length, true)
    view.setUint32(i * 8 + 4, output.length, true)
    size += input.length + output.length
  }
  const data = new Uint8Array(size)
  let at = 0
  for (const { input, output } of steps) {
    data.set(input, at)
    data.set(output, at + input.length)
    at += input.length + output.length
  }
  return encodeCbor({
    ok: true,
    opening,
    receipts: receipts.map(({ signed, steps: packed, ack }) => ({ signed, packed, ...(ack && { ack }) })),
    lengths,
    data,
  })
}

/**
 * Reads an answer. NOT checked: signatures, chains and digests (`audit.ts` does).
 * @throws `not_found` with the server's reason when it shows nothing, `protocol` naming the field.
 */
export function parseAuditAnswer(bytes: Uint8Array): AuditAnswer {
  if (bytes.length > MAX_AUDIT_BYTES) {
    throw new ChoraleError('protocol', `audit answer of ${bytes.length} bytes (at most ${MAX_AUDIT_BYTES})`)
  }
  const map = decodeCborMap(bytes, 'audit answer', 16 + MAX_AUDIT_RECEIPTS * 8)
  if (!booleanField(map, 'ok')) {
    throw new ChoraleError(
      'not_found',
      `the server shows nothing: ${textField(map, 'reason', MAX_REASON_LENGTH)}`,
    )
  }
  const receipts = map['receipts']
  if (!Array.isArray(receipts) || receipts.length === 0 || receipts.length > MAX_AUDIT_RECEIPTS) {
    throw bad('receipts', `1 to ${MAX_AUDIT_RECEIPTS} receipts`)
  }
  const lengths = bytesField(map, 'lengths', 0, MAX_AUDIT_STEPS * 8)
  const data = bytesField(map, 'data', 0, MAX_AUDIT_BYTES)
  if (lengths.length % 8 !== 0) throw bad('lengths', 'pairs of 32-bit lengths')
  const view = new DataView(lengths.buffer, lengths.byteOffset, lengths.length)
  const steps: { input: Uint8Array; output: Uint8Array }[] = []
  let at = 0
  for (let i = 0; i < lengths.length; i += 8) {
    const middle = at + view.getUint32(i, true)
    const end = middle + view.getUint32(i + 4, true)
    if (end > data.length) throw bad('data', `${end} bytes, got ${data.length}`)
    steps.push({ input: data.subarray(at, middle), output: data.subarray(middle, end) })
    at = end
  }
  if (at !== data.length) throw bad('data', `${at} bytes, got ${data.length}`)
  return {
    opening: bytesField(map, 'opening', 1, MAX_OPENING_BYTES),
    receipts: receipts.map(readReceipt),
    steps,
  }
}

function readReceipt(value: unknown): StoredReceipt {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw bad('receipts', 'maps')
  const map = value as CborMap
  return {
    signed: bytesField(map, 'signed', 1, MAX_RECEIPT_BYTES),
    steps: bytesField(map, 'packed', 0, MAX_RECEIPT_STEPS * STEP_BYTES),
    ...(map['ack'] !== undefined && { ack: bytesField(map, 'ack', SIGNATURE_BYTES, SIGNATURE_BYTES) }),
  }
}

function bad(field: string, wanted: string): ChoraleError {
  return new ChoraleError('protocol', `audit answer: field ${field} must be ${wanted}`, { field })
}
