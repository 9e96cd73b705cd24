import { ChoraleError } from '../errors.ts'
import { DIGEST_BYTES, fromHex, toHex } from '../model/blob.ts'
import type { ModelRecord, ServerRecord } from '../routing/snapshot.ts'
import { type CborMap, decodeCborMap, encodeCbor } from './cbor.ts'
import {
  amountField,
  booleanField,
  bytesField,
  choiceField,
  textField,
  textListField,
  uintField,
} from './fields.ts'
import { RECORD_SIGNATURE_CONTEXT } from './ids.ts'
import {
  CLOCK_TOLERANCE_MS,
  MAX_ADDR_LENGTH,
  MAX_ADDRS,
  MAX_BLOCKS,
  MAX_HIDDEN_SIZE,
  MAX_LEASE_TOKENS,
  MAX_MODEL_ID_LENGTH,
  MAX_NAME_LENGTH,
  MAX_RECORD_BYTES,
  MAX_RECORD_LIFETIME_MS,
} from './limits.ts'

/**
 * A server's record as it travels: a CBOR map { body, signature }, the body being the canonical CBOR of the fields.
 *
 * The signature covers the body's bytes as received, so fields that a reader does not know are ignored and still
 * signed. This module reads and writes bytes; `swarm/identity.ts` signs and verifies.
 */

/** A record and the model it speaks of. */
export interface Announcement {
  readonly record: ServerRecord
  readonly model: ModelRecord
}

/** A parsed record whose signature was NOT checked. */
export interface UnverifiedRecord extends Announcement {
  /** What the signature must cover: context and body. */
  readonly signedBytes: Uint8Array
  readonly signature: Uint8Array
}

const STATES = ['joining', 'online', 'draining', 'offline'] as const
const SIGNATURE_BYTES = 64
const MAX_TIME = 8.64e15
const MAX_THROUGHPUT = 1e9
/** Far more than models have. */
const MAX_MEMORY_BLOCKS = 1 << 16
const MAX_BANDWIDTH = 1e13

/** The canonical bytes of a record's fields. */
export function encodeRecordBody({ record, model }: Announcement): Uint8Array {
  return encodeCbor({
    peerId: record.peerId,
    addrs: [...record.addrs],
    modelId: record.modelId,
    start: record.start,
    end: record.end,
    state: record.state,
    throughput: record.throughput,
    freeKvTokens: record.freeKvTokens,
    sessions: record.sessions,
    engine: record.engine,
    precision: record.precision,
    version: record.version,
    issuedAt: record.issuedAt,
    expiresAt: record.expiresAt,
    modelName: model.name,
    blockCount: model.blockCount,
    hiddenSize: model.hiddenSize,
    ...(record.prefillThroughput !== undefined && { prefillThroughput: record.prefillThroughput }),
    ...(record.queued !== undefined && { queued: record.queued }),
    ...(record.bandwidth !== undefined && { bandwidth: record.bandwidth }),
    ...(record.blobs === true && { blobs: true }),
    ...(record.manifest !== undefined && { manifest: fromHex(record.manifest) }),
    ...(record.maxBlocks !== undefined && { maxBlocks: record.maxBlocks }),
    ...(record.staysUntil !== undefined && { staysUntil: record.staysUntil }),
    ...(record.intent && { intentStart: record.intent.start, intentEnd: record.intent.end }),
    ...(model.revision !== undefined && { modelRevision: model.revision }),
    ...(model.precision !== undefined && { modelPrecision: model.precision }),
  })
}

/** What is signed for `body`. */
export function recordSignedBytes(body: Uint8Array): Uint8Array {
  const context = new TextEncoder().encode(RECORD_SIGNATURE_CONTEXT)
  const bytes = new Uint8Array(context.length + body.length)
  bytes.set(context)
  bytes.set(body, context.length)
  return bytes
}

/** The record as it travels. @throws `limit` when it is too long: fewer or shorter addresses. */
export function encodeSignedRecord(body: Uint8Array, signature: Uint8Array): Uint8Array {
  const bytes = encodeCbor({ body, signature })
  if (bytes.length > MAX_RECORD_BYTES) {
    throw new ChoraleError(
      'limit',
      `server record of ${bytes.length} bytes (at most ${MAX_RECORD_BYTES}): announce fewer addresses`,
    )
  }
  return bytes
}

/**
 * Reads a record and checks every field's bounds, its span against the model's blocks and its times against `now`.
 * NOT checked: the signature, and that the record says the truth.
 * @throws `protocol`.
 */
export function parseSignedRecord(bytes: Uint8Array, now: number): UnverifiedRecord {
  if (bytes.length > MAX_RECORD_BYTES) {
    throw new ChoraleError('protocol', `server record of ${bytes.length} bytes (at most ${MAX_RECORD_BYTES})`)
  }
  const envelope = decodeCborMap(bytes, 'server record')
  const body = bytesField(envelope, 'body', 1, MAX_RECORD_BYTES)
  const signature = bytesField(envelope, 'signature', SIGNATURE_BYTES, SIGNATURE_BYTES)
  const announcement = readBody(body)
  checkTimes(announcement.record, now)
  return { ...announcement, signature, signedBytes: recordSignedBytes(body) }
}

function readBody(body: Uint8Array): Announcement {
  const map = decodeCborMap(body, 'server record body')
  const modelId = textField(map, 'modelId', MAX_MODEL_ID_LENGTH)
  const blockCount = uintField(map, 'blockCount', MAX_BLOCKS)
  const start = uintField(map, 'start', MAX_BLOCKS)
  const end = uintField(map, 'end', MAX_BLOCKS)
  if (start >= end || end > blockCount) {
    throw new ChoraleError('protocol', `record's span ${start}:${end} is not inside blocks 0:${blockCount}`, {
      field: 'end',
    })
  }
  return {
    record: {
      peerId: textField(map, 'peerId', 128),
      addrs: textListField(map, 'addrs', MAX_ADDRS, MAX_ADDR_LENGTH),
      modelId,
      start,
      end,
      state: choiceField(map, 'state', STATES),
      throughput: amountField(map, 'throughput', MAX_THROUGHPUT),
      freeKvTokens: uintField(map, 'freeKvTokens', MAX_LEASE_TOKENS * 64),
      sessions: uintField(map, 'sessions', 1 << 30),
      engine: textField(map, 'engine', MAX_NAME_LENGTH),
      precision: textField(map, 'precision', MAX_NAME_LENGTH),
      version: textField(map, 'version', MAX_NAME_LENGTH),
      issuedAt: uintField(map, 'issuedAt', MAX_TIME),
      expiresAt: uintField(map, 'expiresAt', MAX_TIME),
      ...(map['prefillThroughput'] !== undefined && {
        prefillThroughput: amountField(map, 'prefillThroughput', MAX_THROUGHPUT),
      }),
      ...(map['intentStart'] !== undefined && { intent: readIntent(map, blockCount) }),
      ...(map['maxBlocks'] !== undefined && { maxBlocks: uintField(map, 'maxBlocks', MAX_MEMORY_BLOCKS) }),
      ...(map['staysUntil'] !== undefined && { staysUntil: uintField(map, 'staysUntil', MAX_TIME) }),
      ...(map['queued'] !== undefined && { queued: uintField(map, 'queued', 1 << 30) }),
      ...(map['blobs'] !== undefined && { blobs: booleanField(map, 'blobs') }),
      ...(map['manifest'] !== undefined && {
        manifest: toHex(bytesField(map, 'manifest', DIGEST_BYTES, DIGEST_BYTES)),
      }),
      ...(map['bandwidth'] !== undefined && { bandwidth: amountField(map, 'bandwidth', MAX_BANDWIDTH) }),
    },
    model: {
      modelId,
      name: textField(map, 'modelName', MAX_MODEL_ID_LENGTH),
      blockCount,
      hiddenSize: uintField(map, 'hiddenSize', MAX_HIDDEN_SIZE),
      ...(map['modelRevision'] !== undefined && {
        revision: textField(map, 'modelRevision', MAX_NAME_LENGTH),
      }),
      ...(map['modelPrecision'] !== undefined && {
        precision: textField(map, 'modelPrecision', MAX_NAME_LENGTH),
      }),
    },
  }
}

function readIntent(map: CborMap, blockCount: number): { start: number; end: number } {
  const start = uintField(map, 'intentStart', blockCount)
  const end = uintField(map, 'intentEnd', blockCount)
  if (start < end) return { start, end }
  throw new ChoraleError('protocol', `record intends the empty span ${start}:${end}`, { field: 'intentEnd' })
}

function checkTimes({ issuedAt, expiresAt }: ServerRecord, now: number): void {
  if (issuedAt > now + CLOCK_TOLERANCE_MS) {
    throw new ChoraleError(
      'protocol',
      `server record was issued ${issuedAt - now} ms in the future: check both clocks`,
      { field: 'issuedAt' },
    )
  }
  if (expiresAt <= issuedAt || expiresAt - issuedAt > MAX_RECORD_LIFETIME_MS) {
    throw new ChoraleError(
      'protocol',
      `server record is valid for ${expiresAt - issuedAt} ms (1 to ${MAX_RECORD_LIFETIME_MS} allowed)`,
      { field: 'expiresAt' },
    )
  }
  if (expiresAt <= now) {
    throw new ChoraleError('protocol', `server record expired ${now - expiresAt} ms ago`, {
      field: 'expiresAt',
    })
  }
}
