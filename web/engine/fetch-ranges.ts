import { ChoraleError, errorCode, errorMessage } from '../../src/errors.ts'
import { isPiece, PIECE_BYTES, pieceLength } from '../../src/model/blob.ts'
import type { ClientBlob } from '../../src/model/client-part.ts'

/** A blob that is wanted, and its address at the gateway. */
export interface WantedBlob {
  readonly blob: ClientBlob
  readonly url: string
}

/** What of it is not here. */
export interface MissingBlob extends WantedBlob {
  /** Digests of its pieces, where they are known. */
  readonly list: Uint8Array | undefined
  readonly missing: ReadonlySet<number>
}

/** A range of the gateway is tried again this often when the connection breaks. */
const TRIES = 4
const RETRY_MS = 500

/**
 * Fetches missing pieces of a blob from the gateway, neighbours in one request.
 * @param keep takes a piece out of `missing`
 * @throws `unreachable`, `not_found`, `bad_file`, and what `keep` throws.
 */
export async function fetchRuns(
  { blob, url, list, missing }: MissingBlob,
  key: string | undefined,
  keep: (index: number, bytes: Uint8Array) => Promise<void>,
): Promise<void> {
  for (let tried = 0; missing.size > 0; tried++) {
    try {
      while (missing.size > 0) {
        const first = Math.min(...missing)
        let end = first + 1
        while (missing.has(end)) end++
        const to = Math.min(blob.byteLength, end * PIECE_BYTES)
        const response = await request(url, {
          ...(key !== undefined && { authorization: `Bearer ${key}` }),
          range: `bytes=${first * PIECE_BYTES}-${to - 1}`,
        })
        // A host that knows no ranges sends the whole.
        let index = response.status === 206 ? first : 0
        for await (const bytes of inPieces(response, () => pieceLength(blob.byteLength, index))) {
          if (list !== undefined && !(await isPiece(list, index, bytes))) {
            throw new ChoraleError('bad_file', `${blob.name} came with other bytes than were promised`)
          }
          await keep(index, bytes)
          index++
          tried = 0
        }
      }
    } catch (error) {
      if (tried + 1 >= TRIES || errorCode(error) === 'not_found' || errorCode(error) === 'capacity')
        throw error
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS * 2 ** tried))
    }
  }
}

/** A response's bytes cut into lengths as `next` says; a rest that is shorter is dropped. */
async function* inPieces(response: Response, next: () => number): AsyncGenerator<Uint8Array, void, void> {
  const reader = response.body?.getReader()
  if (reader === undefined) return
  let piece = new Uint8Array(Math.max(0, next()))
  let filled = 0
  try {
    for (;;) {
      const { done, value } = await reader.read()
      if (done) return
      for (let used = 0; used < value.length && piece.length > 0;) {
        const take = Math.min(piece.length - filled, value.length - used)
        piece.set(value.subarray(used, used + take), filled)
        used += take
        filled += take
        if (filled < piece.length) break
        yield piece
        piece = new Uint8Array(Math.max(0, next()))
        filled = 0
      }
    }
  } finally {
    await reader.cancel().catch(() => undefined)
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
