import { ChoraleError } from './errors.ts'

/**
 * Random access to the bytes of one file: local, over HTTP ranges, or in memory.
 *
 * The model readers see nothing else, so that a server fetches only the ranges of its own tensors.
 */
export interface ByteSource {
  /** What to call the file in errors: a path or URL. */
  readonly name: string
  readonly size: number
  /** Exactly `length` bytes from `offset`. @throws `bad_file` when the range leaves the file or the file is cut short. */
  read(offset: number, length: number, signal?: AbortSignal): Promise<Uint8Array>
  /** Brings ranges near in as few transfers as possible; only sources that fetch from far have it. */
  prefetch?(ranges: readonly ByteRange[], signal?: AbortSignal): Promise<void>
  close(): Promise<void>
}

export interface ByteRange {
  readonly offset: number
  readonly length: number
}

/** A file that is already in memory. Reads are views, not copies. */
export function memorySource(name: string, bytes: Uint8Array): ByteSource {
  return {
    name,
    size: bytes.length,
    read: async (offset, length) => {
      checkRange(name, bytes.length, offset, length)
      return bytes.subarray(offset, offset + length)
    },
    close: async () => undefined,
  }
}

/** @throws `bad_file` unless [offset, offset + length) lies inside a file of `size` bytes. */
export function checkRange(name: string, size: number, offset: number, length: number): void {
  if (
    !Number.isSafeInteger(offset) ||
    !Number.isSafeInteger(length) ||
    offset < 0 ||
    length < 0 ||
    offset + length > size
  ) {
    throw new ChoraleError(
      'bad_file',
      `${name}: bytes ${offset}..${offset + length} lie outside the file of ${size} bytes (is it complete?)`,
    )
  }
}
