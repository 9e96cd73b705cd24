import { Decompress } from 'fzstd'
import { ChoraleError, errorMessage } from '../../errors.ts'

/** Bytes of a runtime's wasm after decompression, as in Substrate: a small blob must not unpack to all memory. */
const MAX_CODE_BYTES = 50 * 2 ** 20
const ZSTD_MARK = Uint8Array.of(0x52, 0xbc, 0x53, 0x76, 0x46, 0xdb, 0x8e, 0x05)
/** Bytes given to the decompressor at a time; what one piece unpacks to is checked before the next. */
const PIECE_BYTES = 16_384

/** The wasm of a `:code` value, which may be packed with zstd behind a mark of 8 bytes. @throws `bad_file`, `limit`. */
export function unpackCode(code: Uint8Array): Uint8Array<ArrayBuffer> {
  if (!ZSTD_MARK.every((byte, at) => code[at] === byte)) return checkSize(code.slice())
  const parts: Uint8Array[] = []
  let size = 0
  const unpack = new Decompress((part) => {
    size += part.length
    if (size > MAX_CODE_BYTES) throw tooLarge(size)
    parts.push(part)
  })
  try {
    for (let at = ZSTD_MARK.length; at < code.length; at += PIECE_BYTES) {
      unpack.push(code.subarray(at, at + PIECE_BYTES), at + PIECE_BYTES >= code.length)
    }
  } catch (error) {
    if (error instanceof ChoraleError) throw error
    throw new ChoraleError('bad_file', `:code is not zstd as its mark says: ${errorMessage(error)}`, {
      cause: error,
      field: ':code',
    })
  }
  const out = new Uint8Array(size)
  let at = 0
  for (const part of parts) {
    out.set(part, at)
    at += part.length
  }
  return out
}

function checkSize(code: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  if (code.length > MAX_CODE_BYTES) throw tooLarge(code.length)
  return code
}

function tooLarge(size: number): ChoraleError {
  return new ChoraleError('limit', `:code is ${size} bytes of wasm or more, the limit is ${MAX_CODE_BYTES}`, {
    field: ':code',
  })
}
