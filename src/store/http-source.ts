import { ChoraleError } from '../errors.ts'
import { type ByteRange, type ByteSource, checkRange } from '../byte-source.ts'
import type { CacheStore } from './cache-store.ts'
import { CHUNK_BYTES, openChunkFile } from './chunk-file.ts'
import { fetchRange, type HttpOptions } from './http-range.ts'

/** Counts bytes to fetch and fetched, for people who wait. */
export interface Progress {
  need(bytes: number): void
  got(bytes: number): void
}

export interface RemoteFile {
  /** For errors, e.g. `org/repo/model.safetensors`. */
  readonly name: string
  readonly url: string
  readonly size: number
  /** Where in the cache its chunks live: one address for each content. */
  readonly cachePath: string
  /** SHA-256 of the whole file, hex, where the server tells it. */
  readonly sha256: string | undefined
}

/** A remote file read by ranges through the cache. */
export interface HttpSource extends ByteSource {
  /** Bytes of the file that the cache lacks. */
  missingBytes(): Promise<number>
  prefetch(ranges: readonly ByteRange[], signal?: AbortSignal): Promise<void>
}

/**
 * Opens a remote file. Only chunks that are read and not in the cache are fetched, neighbours in one request; a file
 * that is complete is checked against its SHA-256 once.
 * @throws from reads: `bad_file` when the content is not what the server promised, and `fetchRange`'s errors.
 */
export async function openHttpSource(
  file: RemoteFile,
  cache: CacheStore,
  options: HttpOptions & { readonly progress?: Progress },
): Promise<HttpSource> {
  const chunks = await openChunkFile(cache, file.cachePath, file.size)
  const whole: ByteRange = { offset: 0, length: file.size }
  // One fetch at a time: two readers of one chunk must not fetch it twice.
  let queue: Promise<unknown> = Promise.resolve()

  const fetchRun = async (run: ByteRange, signal: AbortSignal | undefined) => {
    const buffer = new Uint8Array(CHUNK_BYTES)
    let at = run.offset
    let filled = 0
    await fetchRange(
      file.url,
      { ...run, size: file.size },
      async (bytes) => {
        for (let used = 0; used < bytes.length;) {
          const length = Math.min(CHUNK_BYTES, file.size - at)
          const take = Math.min(length - filled, bytes.length - used)
          buffer.set(bytes.subarray(used, used + take), filled)
          used += take
          filled += take
          if (filled < length) continue
          await chunks.put(at, buffer.subarray(0, length))
          options.progress?.got(length)
          at += length
          filled = 0
        }
      },
      options,
      signal,
    )
  }

  const fetchMissing = async (ranges: readonly ByteRange[], signal: AbortSignal | undefined) => {
    const runs = await chunks.missing(ranges)
    if (runs.length === 0) return
    options.progress?.need(sum(runs))
    for (const run of runs) {
      // Another process may have fetched part of it meanwhile.
      const still = await chunks.missing([run])
      options.progress?.got(run.length - sum(still))
      for (const part of still) await fetchRun(part, signal)
    }
    if ((await chunks.missing([whole])).length === 0) await checkWhole()
  }

  const checkWhole = async () => {
    if (file.sha256 === undefined) return
    const actual = await chunks.sha256()
    if (actual === file.sha256) return
    await chunks.clear()
    throw new ChoraleError(
      'bad_file',
      `${file.name}: SHA-256 is ${actual}, the server promised ${file.sha256}; the download was removed, try again`,
      { field: 'sha256' },
    )
  }

  const ensure = async (ranges: readonly ByteRange[], signal: AbortSignal | undefined) => {
    for (const { length, offset } of ranges) checkRange(file.name, file.size, offset, length)
    const turn = queue.then(async () => await fetchMissing(ranges, signal))
    queue = turn.catch(() => undefined)
    await turn
  }

  return {
    name: file.name,
    size: file.size,
    read: async (offset, length, signal) => {
      const range = { offset, length }
      // Damaged chunks show when they are read, and are fetched again.
      for (let tries = 0; tries < 3; tries++) {
        signal?.throwIfAborted()
        await ensure([range], signal)
        const bytes = await chunks.read(offset, length)
        if (bytes !== undefined) return bytes
      }
      throw new ChoraleError(
        'bad_file',
        `${file.name}: the cache in ${cache.name} does not keep what is written`,
      )
    },
    prefetch: ensure,
    missingBytes: async () => sum(await chunks.missing([whole])),
    close: async () => {
      await queue
      await chunks.close()
    },
  }
}

function sum(runs: readonly ByteRange[]): number {
  return runs.reduce((total, { length }) => total + length, 0)
}
