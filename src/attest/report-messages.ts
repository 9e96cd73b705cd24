import { bytesToHex, hexToBytes } from '@noble/hashes/utils.js'
import { decodeCborMap, encodeCbor } from '../protocol/cbor.ts'
import { bytesField, uintField } from '../protocol/fields.ts'
import { MAX_REPORT_BYTES } from './epoch-report.ts'
import { contentHash } from './evidence.ts'

/** What nodes gossip of their epoch reports: a short one as it is, a longer one by its hash, to be fetched. Bytes only. */
export type ReportMessage = { readonly report: Uint8Array } | { readonly hash: string; readonly size: number }

/** Bytes of a report that still travels whole: each message passes every link between nodes about six times. */
export const MAX_INLINE_REPORT_BYTES = 16_000

/** @param again how often the same was said before: equal messages travel once. */
export function encodeReportMessage(report: Uint8Array, again: number): Uint8Array {
  const what =
    report.length <= MAX_INLINE_REPORT_BYTES
      ? { report }
      : { hash: hexToBytes(contentHash(report)), size: report.length }
  return encodeCbor(again === 0 ? what : { ...what, again })
}

/** NOT checked: the report, and that the hash is of one. @throws `protocol` naming the field. */
export function parseReportMessage(bytes: Uint8Array): ReportMessage {
  const map = decodeCborMap(bytes, 'report message')
  if (map['report'] !== undefined) {
    return { report: bytesField(map, 'report', 1, MAX_INLINE_REPORT_BYTES).slice() }
  }
  return {
    hash: bytesToHex(bytesField(map, 'hash', 32, 32)),
    size: uintField(map, 'size', MAX_REPORT_BYTES),
  }
}
