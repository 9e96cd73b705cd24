import { ChoraleError } from '../errors.ts'
import { type CborMap, decodeCborMap, encodeCbor } from '../protocol/cbor.ts'
import { bytesField, choiceField, textField, uintField } from '../protocol/fields.ts'
import { MAX_BLOCKS, MAX_MODEL_ID_LENGTH } from '../protocol/limits.ts'
import type { VerifySignature } from '../protocol/receipt-check.ts'
import { contentHash, equalBytes, type SignBytes } from './evidence.ts'
import { MAX_WORK_PROOF_BYTES, openWorkProof, type WorkReceipt } from './work-receipt.ts'

/**
 * What a node publishes once an epoch under its signature: the span it served, whom it saw serving, the audits it made,
 * its receipts. The union of these reports is all the evidence that scores are computed from (`snapshot.ts`).
 */

/** One other node as the reporter saw it. */
export interface Sighting {
  readonly nodeId: number
  /** Blocks it served longest in the epoch. */
  readonly start: number
  readonly end: number
  /** Parts per thousand of the reporter's looks at which it was there. */
  readonly uptime: number
}

/** `unavailable`: the server could not show the inputs of a session that it reported. */
export type AuditOutcome = 'passed' | 'failed' | 'unavailable'

/** What an accountant found. */
export interface AuditEntry {
  readonly nodeId: number
  readonly session: string
  readonly outcome: AuditOutcome
}

export interface EpochReport {
  readonly subnetId: number
  /** The subnet epoch that ended. */
  readonly epoch: number
  readonly nodeId: number
  readonly peerId: string
  readonly modelId: string
  readonly blockCount: number
  /** Blocks [start, end) that it served; 0, 0 for none. */
  readonly start: number
  readonly end: number
  /** By node id, ascending. */
  readonly sightings: readonly Sighting[]
  readonly audits: readonly AuditEntry[]
  /** Proofs of sessions whose inputs it can show until the next epoch ends (`work-receipt.ts`). */
  readonly receipts: readonly Uint8Array[]
}

/** A report whose signatures, its receipts' included, are right. */
export interface OpenReport {
  readonly report: EpochReport
  readonly receipts: readonly WorkReceipt[]
  /** Content address of the bytes. */
  readonly hash: string
  readonly bytes: Uint8Array
}

/** Put before a report's bytes when it is signed. */
const SIGNATURE_CONTEXT = 'chorale-epoch-report-1:'
/** Every validator keeps and checks the report of every node: 256 nodes stay under 48 MiB. */
export const MAX_REPORT_BYTES = 192 * 1024
/** Each costs two signature checks on every validator. */
export const MAX_REPORT_RECEIPTS = 128
/** Nodes of a subnet, by the pallet. */
const MAX_NODES = 256
const MAX_AUDITS = 64
const SIGHTING_BYTES = 10
const OUTCOMES = ['passed', 'failed', 'unavailable'] as const

/** A signed report as it travels. @throws `limit` when it is too long: leave receipts out. */
export async function signReport(report: EpochReport, sign: SignBytes): Promise<Uint8Array> {
  const body = encodeBody(report)
  const bytes = encodeCbor({ body, signature: await sign(signedBytes(body)) })
  if (bytes.length > MAX_REPORT_BYTES) {
    throw new ChoraleError(
      'limit',
      `epoch report of ${bytes.length} bytes (at most ${MAX_REPORT_BYTES}): report fewer receipts`,
    )
  }
  return bytes
}

/**
 * Reads a report, checks every field's bounds, its signature and those of its receipts, and that each is the
 * reporter's own. NOT checked: that the peer is the node it names (`snapshot.ts` does), and that it says the truth.
 * @throws `protocol`.
 */
export async function openReport(bytes: Uint8Array, verify: VerifySignature): Promise<OpenReport> {
  const { report, body, signature } = parseReport(bytes)
  if (!(await verify(report.peerId, signedBytes(body), signature))) {
    throw new ChoraleError('protocol', `the epoch report of ${report.peerId} is not signed by that peer`, {
      field: 'signature',
    })
  }
  const receipts: WorkReceipt[] = []
  for (const receipt of report.receipts) {
    const opened = await openWorkProof(receipt, verify)
    if (opened.server !== report.peerId) {
      throw new ChoraleError('protocol', `${report.peerId} reports a receipt of ${opened.server}`, {
        field: 'receipts',
      })
    }
    receipts.push(opened)
  }
  return { report, receipts, hash: contentHash(bytes), bytes }
}

/** Reads the fields. NOT checked: any signature. @throws `protocol`. */
export function parseReport(bytes: Uint8Array): {
  report: EpochReport
  body: Uint8Array
  signature: Uint8Array
} {
  if (bytes.length > MAX_REPORT_BYTES) {
    throw new ChoraleError('protocol', `epoch report of ${bytes.length} bytes (at most ${MAX_REPORT_BYTES})`)
  }
  const envelope = decodeCborMap(bytes, 'epoch report')
  const body = bytesField(envelope, 'body', 1, MAX_REPORT_BYTES)
  const signature = bytesField(envelope, 'signature', 64, 64)
  const report = readBody(decodeCborMap(body, 'epoch report body', 1024))
  // One spelling only: the same report must not exist under two content addresses.
  if (!equalBytes(encodeBody(report), body)) {
    throw new ChoraleError('protocol', 'the epoch report is not in canonical form', { field: 'body' })
  }
  return { report, body, signature }
}

function encodeBody(report: EpochReport): Uint8Array {
  return encodeCbor({
    ...report,
    sightings: encodeSightings(report.sightings),
    audits: report.audits.map(({ nodeId, session, outcome }) => ({ nodeId, session, outcome })),
    receipts: [...report.receipts],
  })
}

function readBody(map: CborMap): EpochReport {
  const blockCount = uintField(map, 'blockCount', MAX_BLOCKS)
  const start = uintField(map, 'start', MAX_BLOCKS)
  const end = uintField(map, 'end', MAX_BLOCKS)
  if (end > blockCount || (start >= end && end !== 0)) {
    throw bad('end', `a span ${start}:${end} is not inside blocks 0:${blockCount}`)
  }
  return {
    subnetId: uintField(map, 'subnetId', 0xffff_ffff),
    epoch: uintField(map, 'epoch', 0xffff_ffff),
    nodeId: uintField(map, 'nodeId', 0xffff_ffff),
    peerId: textField(map, 'peerId', 128),
    modelId: textField(map, 'modelId', MAX_MODEL_ID_LENGTH),
    blockCount,
    start,
    end,
    sightings: readSightings(bytesField(map, 'sightings', 0, MAX_NODES * SIGHTING_BYTES)),
    audits: list(map, 'audits', MAX_AUDITS).map(readAudit),
    receipts: list(map, 'receipts', MAX_REPORT_RECEIPTS).map((value) =>
      bytesField({ receipts: value }, 'receipts', 1, MAX_WORK_PROOF_BYTES),
    ),
  }
}

function readAudit(value: unknown): AuditEntry {
  if (typeof value !== 'object' || value === null) throw bad('audits', 'an audit is no map')
  const map = value as CborMap
  return {
    nodeId: uintField(map, 'nodeId', 0xffff_ffff),
    session: textField(map, 'session', 64),
    outcome: choiceField(map, 'outcome', OUTCOMES),
  }
}

/** Packed: 256 nodes see 255 others each. */
function encodeSightings(sightings: readonly Sighting[]): Uint8Array {
  const view = new DataView(new ArrayBuffer(sightings.length * SIGHTING_BYTES))
  for (const [i, { nodeId, start, end, uptime }] of sightings.entries()) {
    const at = i * SIGHTING_BYTES
    view.setUint32(at, nodeId)
    view.setUint16(at + 4, start)
    view.setUint16(at + 6, end)
    view.setUint16(at + 8, uptime)
  }
  return new Uint8Array(view.buffer)
}

function readSightings(bytes: Uint8Array): Sighting[] {
  if (bytes.length % SIGHTING_BYTES !== 0) throw bad('sightings', 'sightings are cut')
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  const sightings: Sighting[] = []
  let last = -1
  for (let at = 0; at < bytes.length; at += SIGHTING_BYTES) {
    const nodeId = view.getUint32(at)
    const [start, end, uptime] = [4, 6, 8].map((offset) => view.getUint16(at + offset)) as [
      number,
      number,
      number,
    ]
    if (nodeId <= last) throw bad('sightings', `node ${nodeId} is out of order`)
    if (end > MAX_BLOCKS || start >= end)
      throw bad('sightings', `node ${nodeId} has the span ${start}:${end}`)
    if (uptime > 1000) throw bad('sightings', `node ${nodeId} has an uptime of ${uptime} of 1000`)
    sightings.push({ nodeId, start, end, uptime })
    last = nodeId
  }
  return sightings
}

function list(map: CborMap, name: string, max: number): readonly unknown[] {
  const value = map[name]
  if (Array.isArray(value) && value.length <= max) return value
  throw bad(name, `${name} must be a list of at most ${max}`)
}

function signedBytes(body: Uint8Array): Uint8Array {
  const context = new TextEncoder().encode(SIGNATURE_CONTEXT)
  const bytes = new Uint8Array(context.length + body.length)
  bytes.set(context)
  bytes.set(body, context.length)
  return bytes
}

function bad(field: string, message: string): ChoraleError {
  return new ChoraleError('protocol', `epoch report: ${message}`, { field })
}
