import { ChoraleError, errorMessage } from '../../src/errors.ts'
import { type ClientBlob, type ClientPart, openClientPart, sha256Hex } from '../../src/model/client-part.ts'
import type { Model } from '../../src/model/model.ts'
import { openCachedBlob } from './blob-cache.ts'

/** A client's part that is here in whole. */
export interface FetchedPart {
  readonly model: Model
  readonly fetchedBytes: number
  readonly cachedBytes: number
  /** Lets go of the bytes that the engine copied. */
  release(): void
}

export interface FetchOptions {
  /** Blobs are at this address, each under its name. */
  readonly url: string
  /** The gateway's API key. */
  readonly key: string | undefined
  readonly onProgress: (loadedBytes: number, totalBytes: number) => void
}

/** A blob that came over the network is tried again this often when the connection breaks or bytes are wrong. */
const TRIES = 4
const RETRY_MS = 500

/**
 * Fetches a client's part from a gateway, through the cache: progress counts all bytes of all blobs.
 * @throws `unreachable`, `not_found`, `bad_file`.
 */
export async function fetchClientPart(part: ClientPart, options: FetchOptions): Promise<FetchedPart> {
  const headers: Record<string, string> =
    options.key === undefined ? {} : { authorization: `Bearer ${options.key}` }
  const total = part.blobs.reduce((sum, blob) => sum + blob.byteLength, 0)
  const here = new Map<string, Uint8Array>()
  let loaded = 0
  let fetched = 0
  let cached = 0
  options.onProgress(0, total)
  for (const blob of part.blobs) {
    const before = loaded
    const found = await fetchBlob(`${options.url}/${blob.name}`, blob, headers, (bytes) => {
      options.onProgress(before + bytes, total)
    })
    loaded += blob.byteLength
    options.onProgress(loaded, total)
    fetched += found.fetched
    cached += blob.byteLength - Math.min(found.fetched, blob.byteLength)
    here.set(blob.name, found.bytes)
  }
  const model = openClientPart(part, async ({ name }) => {
    const bytes = here.get(name)
    if (bytes === undefined) throw new ChoraleError('internal', `blob ${name} was let go`)
    return bytes
  })
  return { model, fetchedBytes: fetched, cachedBytes: cached, release: () => here.clear() }
}

/** A blob through the cache, checked against its SHA-256. @throws `unreachable`, `not_found`, `bad_file`. */
export async function fetchBlob(
  url: string,
  blob: ClientBlob,
  headers: Record<string, string>,
  onBytes: (bytes: number) => void,
): Promise<{ bytes: Uint8Array; fetched: number }> {
  const store = (await openCachedBlob(blob)) ?? memoryBlob(blob.byteLength)
  let fetched = 0
  try {
    for (let tried = 0; ; tried++) {
      if (store.size > blob.byteLength) store.clear()
      try {
        onBytes(store.size)
        if (store.size < blob.byteLength) {
          const response = await request(url, { ...headers, range: `bytes=${store.size}-` })
          // A host that knows no ranges sends the whole.
          if (response.status !== 206) store.clear()
          for await (const piece of piecesOf(response)) {
            store.append(piece)
            fetched += piece.length
            onBytes(store.size)
          }
        }
        const bytes = store.readAll()
        if (bytes.length === blob.byteLength && (await sha256Hex(bytes)) === blob.sha256) {
          return { bytes, fetched }
        }
        if (bytes.length >= blob.byteLength) store.clear()
        throw new ChoraleError('bad_file', `${blob.name} came with other bytes than were promised`)
      } catch (error) {
        if (tried + 1 >= TRIES || (error instanceof ChoraleError && error.code === 'not_found')) throw error
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS * 2 ** tried))
      }
    }
  } finally {
    store.close()
  }
}

async function* piecesOf(response: Response): AsyncGenerator<Uint8Array, void, void> {
  const reader = response.body?.getReader()
  if (reader === undefined) return
  for (;;) {
    const { done, value } = await reader.read()
    if (done) return
    yield value
  }
}

async function request(url: string, headers: Record<string, string>): Promise<Response> {
  let response: Response
  try {
    response = await fetch(url, { headers, cache: 'no-store' })
  } catch (cause) {
    throw new ChoraleError('unreachable', `the gateway does not answer: ${errorMessage(cause)}`, { cause })
  }
  if (response.ok) return response
  const body = (await response.json().catch(() => ({}))) as { error?: { message?: string } }
  const message = body.error?.message ?? `the gateway answered ${response.status}`
  throw new ChoraleError(response.status === 404 ? 'not_found' : 'unreachable', message)
}

function memoryBlob(byteLength: number) {
  const bytes = new Uint8Array(byteLength)
  let size = 0
  return {
    get size() {
      return size
    },
    append(piece: Uint8Array) {
      const room = bytes.subarray(size, size + piece.length)
      room.set(piece.subarray(0, room.length))
      size += piece.length
    },
    readAll: () => bytes.subarray(0, Math.min(size, byteLength)),
    clear: () => {
      size = 0
    },
    close: () => undefined,
  }
}
