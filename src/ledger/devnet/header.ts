import { toHex } from '../hex.ts'
import { ScaleReader, ScaleWriter } from './native/scale-bytes.ts'
import { blake2b256 } from './trie-root.ts'

/** A block's header, hashes as bytes; digest items stay encoded. */
export interface Header {
  readonly parentHash: Uint8Array
  readonly number: number
  readonly stateRoot: Uint8Array
  readonly extrinsicsRoot: Uint8Array
  readonly digest: readonly Uint8Array[]
}

/** A header as JSON-RPC prints it. */
export interface HeaderJson {
  readonly parentHash: string
  readonly number: string
  readonly stateRoot: string
  readonly extrinsicsRoot: string
  readonly digest: { readonly logs: readonly string[] }
}

const OTHER = 0
const CONSENSUS = 4
const SEAL = 5
const PRE_RUNTIME = 6
const ENVIRONMENT_UPDATED = 8

/** SCALE bytes of a header. */
export function encodeHeader(header: Header): Uint8Array {
  const writer = new ScaleWriter()
  writer.bytes(header.parentHash)
  writer.compact(header.number)
  writer.bytes(header.stateRoot)
  writer.bytes(header.extrinsicsRoot)
  writer.compact(header.digest.length)
  for (const item of header.digest) writer.bytes(item)
  return writer.finish()
}

/** Reads a header. @throws `ledger` when the bytes are none. */
export function decodeHeader(bytes: Uint8Array): Header {
  const reader = new ScaleReader(bytes)
  const parentHash = reader.take(32)
  const number = Number(reader.compact())
  const stateRoot = reader.take(32)
  const extrinsicsRoot = reader.take(32)
  const digest = Array.from({ length: reader.count(1) }, () => readDigestItem(reader))
  reader.end('a header')
  return { parentHash, number, stateRoot, extrinsicsRoot, digest }
}

/** BLAKE2b-256 of the encoded header: the block's hash. */
export function headerHash(encoded: Uint8Array): string {
  return toHex(blake2b256(encoded))
}

/** Bytes of a hash in hex; the text is a hash, unchecked. */
export function hashBytes(hash: string): Uint8Array {
  const bytes = new Uint8Array(32)
  for (let i = 0; i < 32; i++) bytes[i] = Number.parseInt(hash.slice(2 + 2 * i, 4 + 2 * i), 16)
  return bytes
}

/** The header as JSON-RPC prints it. */
export function headerJson(header: Header): HeaderJson {
  return {
    parentHash: toHex(header.parentHash),
    number: `0x${header.number.toString(16)}`,
    stateRoot: toHex(header.stateRoot),
    extrinsicsRoot: toHex(header.extrinsicsRoot),
    digest: { logs: header.digest.map(toHex) },
  }
}

/** Digest item that tells the runtime which Aura slot the block is for. */
export function auraPreDigest(slot: bigint): Uint8Array {
  const writer = new ScaleWriter()
  writer.small(PRE_RUNTIME, 1)
  writer.bytes(new TextEncoder().encode('aura'))
  writer.compact(8)
  writer.big(slot, 8)
  return writer.finish()
}

function readDigestItem(reader: ScaleReader): Uint8Array {
  const start = reader.offset
  const kind = reader.small(1, false)
  if (kind === CONSENSUS || kind === SEAL || kind === PRE_RUNTIME) reader.skip(4)
  if (kind === OTHER || kind === CONSENSUS || kind === SEAL || kind === PRE_RUNTIME) {
    reader.skip(reader.count(1))
  } else if (kind !== ENVIRONMENT_UPDATED) {
    reader.skip(reader.remaining + 1) // no such kind: reads as an early end
  }
  return reader.bytes.slice(start, reader.offset)
}
