import { ChoraleError } from '../errors.ts'

/**
 * What vocabulary entries stand for, as bytes.
 *
 * Each of the decoders that language models ship comes down to bytes per token, joined, read as UTF-8, less a
 * leading space or so: that makes streaming exact and cheap.
 */
export interface PieceDecoder {
  /** Bytes of an entry. `literal` entries (special or added tokens) stand for their own text. */
  bytes(piece: string, kind: 'vocabulary' | 'added' | 'special'): Uint8Array
  /** Leading spaces dropped from the whole text. */
  readonly leadingSpaces: number
}

/** Nested decoders deeper than this are no real tokenizer's. */
const MAX_DEPTH = 8
const BYTE_TOKEN = /^<0x([0-9A-Fa-f]{2})>$/
const encoder = new TextEncoder()

/** GPT-2's map of printable characters to bytes: printable Latin-1 is itself, the other 68 bytes follow from U+0100. */
const BYTE_OF_CHARACTER: ReadonlyMap<string, number> = (() => {
  const map = new Map<string, number>()
  let next = 256
  for (let byte = 0; byte < 256; byte++) {
    const printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174
    map.set(String.fromCharCode(printable ? byte : next++), byte)
  }
  return map
})()

/**
 * Reads the `decoder` of a tokenizer.json: ByteLevel, or SentencePiece's Replace / ByteFallback / Fuse / Strip /
 * Metaspace. Clean-up of spaces before punctuation is never done: it can't be streamed.
 * @throws `not_supported` for other decoders, `bad_file` for broken ones.
 */
export function pieceDecoder(config: unknown): PieceDecoder {
  let byteLevel = false
  let byteFallback = false
  let leadingSpaces = 0
  const replacements: (readonly [from: string, to: string])[] = []

  const read = (value: unknown, depth: number): void => {
    if (depth > MAX_DEPTH)
      throw new ChoraleError('bad_file', `tokenizer.json: decoder is nested deeper than ${MAX_DEPTH}`)
    const decoder = isRecord(value) ? value : {}
    const type = decoder['type']
    switch (type) {
      case 'Sequence': {
        const parts = decoder['decoders']
        if (!Array.isArray(parts))
          throw new ChoraleError('bad_file', 'tokenizer.json: decoder.decoders is not a list')
        for (const part of parts) read(part, depth + 1)
        return
      }
      case 'ByteLevel':
        byteLevel = true
        return
      case 'ByteFallback':
        byteFallback = true
        return
      case 'Fuse':
        return
      case 'Replace': {
        const pattern = isRecord(decoder['pattern']) ? decoder['pattern']['String'] : undefined
        const content = decoder['content']
        if (typeof pattern !== 'string' || pattern === '' || typeof content !== 'string') {
          throw new ChoraleError(
            'not_supported',
            'tokenizer.json: a Replace decoder is only read with a text pattern',
          )
        }
        replacements.push([pattern, content])
        return
      }
      case 'Strip': {
        const { content, start, stop } = decoder
        if (content !== ' ' || !isCount(start) || (stop ?? 0) !== 0) {
          throw new ChoraleError(
            'not_supported',
            'tokenizer.json: a Strip decoder is only read for leading spaces',
          )
        }
        leadingSpaces += start
        return
      }
      case 'Metaspace': {
        const replacement = decoder['replacement'] ?? '▁'
        if (typeof replacement !== 'string' || replacement === '') {
          throw new ChoraleError('bad_file', 'tokenizer.json: decoder.replacement is not a character')
        }
        replacements.push([replacement, ' '])
        const scheme =
          decoder['prepend_scheme'] ?? (decoder['add_prefix_space'] === false ? 'never' : 'always')
        if (scheme !== 'never') leadingSpaces += 1
        return
      }
      default:
        throw new ChoraleError(
          'not_supported',
          `tokenizer.json: decoder ${value === null ? 'null' : String(type).slice(0, 40)} is not supported ` +
            '(ByteLevel and SentencePiece decoders are)',
        )
    }
  }
  read(config, 0)

  return {
    leadingSpaces,
    bytes(piece, kind) {
      if (kind === 'special') return encoder.encode(piece)
      if (byteLevel) return kind === 'added' ? encoder.encode(piece) : byteLevelBytes(piece)
      const byte = byteFallback ? BYTE_TOKEN.exec(piece)?.[1] : undefined
      if (byte !== undefined) return Uint8Array.of(Number.parseInt(byte, 16))
      let text = piece
      for (const [from, to] of replacements) text = text.replaceAll(from, () => to)
      return encoder.encode(text)
    },
  }
}

/** An entry with a character outside the map stands for its own text. */
function byteLevelBytes(piece: string): Uint8Array {
  const bytes = new Uint8Array(piece.length)
  for (let index = 0; index < piece.length; index++) {
    const byte = BYTE_OF_CHARACTER.get(piece[index] as string)
    if (byte === undefined) return encoder.encode(piece)
    bytes[index] = byte
  }
  return bytes
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isCount(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) <= 16
}
