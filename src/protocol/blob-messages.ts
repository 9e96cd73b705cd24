/** Questions of `/chorale/blob/1` and the answers that are no plain bytes. A frame around them is bytes-messages.ts's. */

import { ChoraleError } from '../errors.ts'
import { DIGEST_BYTES, fromHex, type Held, MAX_BLOB_BYTES, pieceCount, toHex } from '../model/blob.ts'
import { decodeCborMap, encodeCbor } from './cbor.ts'
import { bytesField, choiceField, uintField } from './fields.ts'

export type BlobQuestion =
  /** The description of a model's weights, by the SHA-256 of its bytes. Answer: the bytes. */
  | { readonly ask: 'manifest'; readonly hash: string }
  /** What the peer has of these blobs. Answer: `encodeHeld`. */
  | { readonly ask: 'have'; readonly roots: readonly string[] }
  /** A blob's list of pieces. Answer: 32 bytes a piece. */
  | { readonly ask: 'list'; readonly root: string }
  /** Answer: the piece. */
  | { readonly ask: 'piece'; readonly root: string; readonly index: number }

/** Roots of one question: what has to be looked up for somebody. */
export const MAX_ROOTS = 64
/** The longest question names 64 roots. */
export const MAX_BLOB_QUESTION_BYTES = 4_096
export const MAX_PIECES = pieceCount(MAX_BLOB_BYTES)
/** 64 bitmaps of the largest blobs. */
export const MAX_HELD_BYTES = MAX_ROOTS * (Math.ceil(MAX_PIECES / 8) + 64)

const ASKS = ['manifest', 'have', 'list', 'piece'] as const

export function encodeBlobQuestion(question: BlobQuestion): Uint8Array {
  switch (question.ask) {
    case 'manifest':
      return encodeCbor({ ask: 'manifest', hash: fromHex(question.hash) })
    case 'have':
      return encodeCbor({ ask: 'have', roots: question.roots.map(fromHex) })
    case 'list':
      return encodeCbor({ ask: 'list', root: fromHex(question.root) })
    case 'piece':
      return encodeCbor({ ask: 'piece', root: fromHex(question.root), index: question.index })
  }
}

/** @throws `protocol` naming the field. */
export function parseBlobQuestion(bytes: Uint8Array): BlobQuestion {
  const map = decodeCborMap(bytes, 'blob question')
  const ask = choiceField(map, 'ask', ASKS)
  const digest = (field: string) => toHex(bytesField(map, field, DIGEST_BYTES, DIGEST_BYTES))
  switch (ask) {
    case 'manifest':
      return { ask, hash: digest('hash') }
    case 'have': {
      const roots = map['roots']
      if (!Array.isArray(roots) || roots.length < 1 || roots.length > MAX_ROOTS || !roots.every(isDigest)) {
        throw new ChoraleError('protocol', `roots must be 1 to ${MAX_ROOTS} digests`, { field: 'roots' })
      }
      return { ask, roots: roots.map(toHex) }
    }
    case 'list':
      return { ask, root: digest('root') }
    case 'piece':
      return { ask, root: digest('root'), index: uintField(map, 'index', MAX_PIECES - 1) }
  }
}

/** What a peer has, in the order of the question's roots; undefined for none of a blob. */
export function encodeHeld(held: readonly (Held | undefined)[]): Uint8Array {
  return encodeCbor({
    held: held.map((one) => (one === undefined ? null : [one.byteLength, one.pieces ?? true])),
  })
}

/** @param count roots asked for. @throws `protocol` naming the field. */
export function parseHeld(bytes: Uint8Array, count: number): readonly (Held | undefined)[] {
  const { held } = decodeCborMap(bytes, 'answer of blobs')
  if (!Array.isArray(held) || held.length !== count) throw badHeld(`${count} entries were asked for`)
  return (held as unknown[]).map((entry) => {
    if (entry === null) return undefined
    if (!Array.isArray(entry) || entry.length !== 2) throw badHeld('an entry is no pair')
    const [byteLength, pieces] = entry as unknown[]
    if (
      !Number.isSafeInteger(byteLength) ||
      (byteLength as number) < 1 ||
      (byteLength as number) > MAX_BLOB_BYTES
    ) {
      throw badHeld('a length is out of bounds')
    }
    if (pieces === true) return { byteLength: byteLength as number }
    const bits = Math.ceil(pieceCount(byteLength as number) / 8)
    if (!(pieces instanceof Uint8Array) || pieces.length !== bits) throw badHeld('a map has the wrong length')
    return { byteLength: byteLength as number, pieces }
  })
}

function isDigest(value: unknown): value is Uint8Array {
  return value instanceof Uint8Array && value.length === DIGEST_BYTES
}

function badHeld(why: string): ChoraleError {
  return new ChoraleError('protocol', `answer of blobs is unusable: ${why}`, { field: 'held' })
}
