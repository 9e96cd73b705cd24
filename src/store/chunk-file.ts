import { sha256 } from '@noble/hashes/sha2.js'
import { bytesToHex } from '@noble/hashes/utils.js'
import type { ByteRange } from '../byte-source.ts'
import { PIECE_BYTES } from '../model/blob.ts'
import type { CacheStore } from './cache-store.ts'

/** What is fetched, checked and kept as a unit. Small, because a model's id alone touches 16 places of it. */
export const CHUNK_BYTES = PIECE_BYTES

/**
 * The part of a remote file that this machine holds: a file with holes, and beside it a journal with one line
 * a chunk: `index sha256`.
 *
 * A chunk counts only when its bytes have the journal's digest, so a crash between writing data and journal, a torn
 * line, or two processes writing at a time cost at most a second download of some chunks, never wrong bytes.
 */
export interface ChunkFile {
  readonly size: number
  /** Chunk-aligned ranges that must be fetched before [offset, offset + length) can be read; neighbours joined. */
  missing(ranges: readonly ByteRange[]): Promise<readonly ByteRange[]>
  /** Bytes [offset, offset + length), checked; undefined when a chunk is missing or damaged (it is missing then). */
  read(offset: number, length: number): Promise<Uint8Array | undefined>
  /** Keeps the chunk that starts at `offset`. */
  put(offset: number, bytes: Uint8Array): Promise<void>
  /** SHA-256 of the whole file, hex. Only meaningful when nothing is missing. */
  sha256(): Promise<string>
  /** Forgets everything. */
  clear(): Promise<void>
  close(): Promise<void>
}

/** Opens the part of a file of `size` bytes kept at `path`. */
export async function openChunkFile(cache: CacheStore, path: string, size: number): Promise<ChunkFile> {
  let data = await cache.open(path)
  let journal = await cache.open(`${path}.chunks`)
  const digests = new Map<number, string>()
  const checked = new Set<number>()
  let journalRead = 0
  const chunkCount = Math.ceil(size / CHUNK_BYTES)
  const chunkLength = (index: number) => Math.min(CHUNK_BYTES, size - index * CHUNK_BYTES)

  /** Reads what this and other processes have added. */
  const refresh = async () => {
    const bytes = await journal.read(journalRead, (await journal.size()) - journalRead)
    const text = new TextDecoder().decode(bytes)
    const complete = text.lastIndexOf('\n') + 1
    journalRead += complete
    for (const line of text.slice(0, complete).split('\n')) {
      const match = /^(\d{1,10}) ([0-9a-f]{64})$/.exec(line)
      const index = Number(match?.[1])
      if (match?.[2] === undefined || index >= chunkCount || digests.get(index) === match[2]) continue
      digests.set(index, match[2])
      checked.delete(index)
    }
  }

  return {
    size,
    missing: async (ranges) => {
      await refresh()
      const absent = new Set<number>()
      for (const { length, offset } of ranges) {
        if (length === 0) continue
        const last = Math.floor((offset + length - 1) / CHUNK_BYTES)
        for (let index = Math.floor(offset / CHUNK_BYTES); index <= last; index++) {
          if (!digests.has(index)) absent.add(index)
        }
      }
      const runs: { offset: number; length: number }[] = []
      for (const index of [...absent].sort((a, b) => a - b)) {
        const run = runs.at(-1)
        if (run !== undefined && run.offset + run.length === index * CHUNK_BYTES)
          run.length += chunkLength(index)
        else runs.push({ offset: index * CHUNK_BYTES, length: chunkLength(index) })
      }
      return runs
    },
    read: async (offset, length) => {
      if (length === 0) return new Uint8Array()
      const first = Math.floor(offset / CHUNK_BYTES)
      const last = Math.floor((offset + length - 1) / CHUNK_BYTES)
      const start = first * CHUNK_BYTES
      const bytes = await data.read(start, Math.min((last + 1) * CHUNK_BYTES, size) - start)
      let whole = true
      for (let index = first; index <= last; index++) {
        if (checked.has(index)) continue
        const from = index * CHUNK_BYTES - start
        if ((await digestOf(bytes.subarray(from, from + chunkLength(index)))) === digests.get(index)) {
          checked.add(index)
        } else {
          digests.delete(index)
          whole = false
        }
      }
      return whole ? bytes.subarray(offset - start, offset - start + length) : undefined
    },
    put: async (offset, bytes) => {
      await data.write(offset, bytes)
      const index = offset / CHUNK_BYTES
      const digest = await digestOf(bytes)
      // The newline in front ends what a crash may have left torn.
      await journal.append(new TextEncoder().encode(`\n${index} ${digest}\n`))
      digests.set(index, digest)
    },
    sha256: async () => await data.sha256(),
    clear: async () => {
      await Promise.all([data.close(), journal.close()])
      await Promise.all([cache.remove(path), cache.remove(`${path}.chunks`)])
      digests.clear()
      checked.clear()
      journalRead = 0
      data = await cache.open(path)
      journal = await cache.open(`${path}.chunks`)
    },
    close: async () => {
      await Promise.all([data.close(), journal.close()])
    },
  }
}

/** Native where the platform has it: a server checks gigabytes. */
async function digestOf(bytes: Uint8Array): Promise<string> {
  // Browsers hide it outside secure contexts, whatever the types say.
  const subtle = (globalThis.crypto as Crypto | undefined)?.subtle
  if (subtle === undefined) return bytesToHex(sha256(bytes))
  return bytesToHex(new Uint8Array(await subtle.digest('SHA-256', bytes as Uint8Array<ArrayBuffer>)))
}
