import { blake2b } from '@noble/hashes/blake2.js'
import { ChoraleError } from '../../errors.ts'
import { concat, fromHex, toHex } from '../hex.ts'
import { isRecord } from './json-rpc.ts'
import { encodeCompact } from './scale-encode.ts'

/** A block header as `chain_getHeader` gives it, read. */
export interface Header {
  readonly number: number
  readonly parentHash: string
  /** Blake2-256 of the SCALE header: right on every chain but those that hash otherwise (`blocks.ts` finds out). */
  readonly hash: string
  /** Whether this block changed the runtime: later blocks are by the new one. */
  readonly newRuntime: boolean
}

/** Digest items a header has: a handful. */
const MAX_LOGS = 64
/** `DigestItem::RuntimeEnvironmentUpdated`. */
const RUNTIME_UPDATED = 8

/** @throws `ledger` when the value is no header. */
export function readHeader(value: unknown): Header {
  if (!isRecord(value)) throw new ChoraleError('ledger', 'the node sent no block header')
  const number = typeof value['number'] === 'string' ? Number(value['number']) : value['number']
  if (typeof number !== 'number' || !Number.isInteger(number) || number < 0 || number > 0xffff_ffff) {
    throw new ChoraleError('ledger', `the node sent a block header numbered ${String(value['number'])}`)
  }
  const digest = isRecord(value['digest']) ? value['digest']['logs'] : undefined
  if (!Array.isArray(digest) || digest.length > MAX_LOGS) {
    throw new ChoraleError('ledger', `the header of block ${number} has no digest`)
  }
  const parent = hash32(value['parentHash'], 'parentHash')
  const logs = digest.map((log) => fromHex(log, 'digest'))
  const bytes = concat(
    parent,
    encodeCompact(BigInt(number)),
    hash32(value['stateRoot'], 'stateRoot'),
    hash32(value['extrinsicsRoot'], 'extrinsicsRoot'),
    encodeCompact(BigInt(logs.length)),
    ...logs,
  )
  return {
    number,
    parentHash: toHex(parent),
    hash: toHex(blake2b(bytes, { dkLen: 32 })),
    newRuntime: logs.some((log) => log[0] === RUNTIME_UPDATED),
  }
}

/** A block hash as text. @throws `ledger` when it is none. */
export function readHash(value: unknown, what = 'block hash'): string {
  return toHex(hash32(value, what))
}

function hash32(value: unknown, what: string): Uint8Array {
  const bytes = fromHex(value, what)
  if (bytes.length !== 32)
    throw new ChoraleError('ledger', `the node sent a ${what} of ${bytes.length} bytes`)
  return bytes
}
