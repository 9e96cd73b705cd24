/**
 * Bytes that come from anybody in pieces, each checked before it is used: a blob is named by its root, a digest over
 * its length and the digests of its pieces.
 */

import { joinBytes } from '../bytes.ts'
import { ChoraleError } from '../errors.ts'

/** Bytes of every piece but a blob's last. Small: a piece is what a lie or a cut costs. */
export const PIECE_BYTES = 256 * 1024
/** Bytes of a digest (SHA-256). */
export const DIGEST_BYTES = 32
/** Defends memory against blobs that promise petabytes: the list of pieces alone is 1 MiB then. */
export const MAX_BLOB_BYTES = 8 * 2 ** 30

const ROOT_CONTEXT = new TextEncoder().encode('chorale-blob-1:')

/** Which bytes are meant. */
export interface BlobId {
  /** Hex SHA-256 over `chorale-blob-1:`, the length (u64 LE) and the list of pieces. */
  readonly root: string
  readonly byteLength: number
}

/** Port: blobs that are here, in whole or in part, for others who ask. */
export interface BlobShelf {
  /** The description of a model's weights by the SHA-256 (hex) of its bytes. */
  manifest(hash: string): Promise<Uint8Array | undefined>
  /** What is here of a blob: its length, and which pieces; undefined when nothing is. */
  have(root: string): Promise<Held | undefined>
  /** The digests of all pieces, one after the other. */
  list(root: string): Promise<Uint8Array | undefined>
  /** A piece whose digest is the list's. */
  piece(root: string, index: number): Promise<Uint8Array | undefined>
}

/** A blob as somebody has it. */
export interface Held {
  readonly byteLength: number
  /** Bit i (of byte i >> 3, lowest first) for piece i; undefined: all. */
  readonly pieces?: Uint8Array
}

/** Pieces of a blob of `byteLength` bytes. */
export function pieceCount(byteLength: number): number {
  return Math.ceil(byteLength / PIECE_BYTES)
}

/** Bytes of piece `index`. */
export function pieceLength(byteLength: number, index: number): number {
  return Math.min(PIECE_BYTES, byteLength - index * PIECE_BYTES)
}

/** Whether `held` has piece `index`. */
export function holdsPiece({ byteLength, pieces }: Held, index: number): boolean {
  if (index >= pieceCount(byteLength)) return false
  return pieces === undefined || ((pieces[index >> 3] ?? 0) & (1 << (index & 7))) !== 0
}

/** SHA-256 by the platform's own implementation. */
export async function digestOf(bytes: Uint8Array): Promise<Uint8Array> {
  return new Uint8Array(await crypto.subtle.digest('SHA-256', bytes as Uint8Array<ArrayBuffer>))
}

/** The root of a blob with this length and list. */
export async function blobRoot(byteLength: number, list: Uint8Array): Promise<string> {
  const length = new Uint8Array(8)
  new DataView(length.buffer).setBigUint64(0, BigInt(byteLength), true)
  return toHex(await digestOf(joinBytes([ROOT_CONTEXT, length, list])))
}

/** Root and list of a blob, reading one piece at a time. */
export async function hashBlob(
  byteLength: number,
  read: (offset: number, length: number) => Promise<Uint8Array>,
): Promise<BlobId & { readonly list: Uint8Array }> {
  const list = new Uint8Array(pieceCount(byteLength) * DIGEST_BYTES)
  for (let index = 0; index * PIECE_BYTES < byteLength; index++) {
    const bytes = await read(index * PIECE_BYTES, pieceLength(byteLength, index))
    list.set(await digestOf(bytes), index * DIGEST_BYTES)
  }
  return { root: await blobRoot(byteLength, list), byteLength, list }
}

/** @throws `protocol` unless `list` is the list of `blob`. */
export async function checkPieceList({ byteLength, root }: BlobId, list: Uint8Array): Promise<void> {
  const wanted = pieceCount(byteLength) * DIGEST_BYTES
  if (list.length !== wanted || (await blobRoot(byteLength, list)) !== root) {
    throw new ChoraleError('protocol', `a list of ${list.length} bytes is not that of blob ${root}`)
  }
}

/** Whether these are the bytes of piece `index` of a blob with this list. */
export async function isPiece(list: Uint8Array, index: number, bytes: Uint8Array): Promise<boolean> {
  const digest = await digestOf(bytes)
  const at = index * DIGEST_BYTES
  return at < list.length && digest.every((byte, i) => byte === list[at + i])
}

export function toHex(bytes: Uint8Array): string {
  let text = ''
  for (const byte of bytes) text += byte.toString(16).padStart(2, '0')
  return text
}

/** Whether `value` names a blob or a manifest: 64 hex digits in lower case. */
export function isDigestHex(value: unknown): value is string {
  return typeof value === 'string' && /^[0-9a-f]{64}$/.test(value)
}

/** @param hex as `isDigestHex` wants it */
export function fromHex(hex: string): Uint8Array {
  return Uint8Array.from({ length: hex.length / 2 }, (_, i) =>
    Number.parseInt(hex.slice(2 * i, 2 * i + 2), 16),
  )
}
