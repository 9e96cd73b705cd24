import type { Context } from 'hono'
import { ChoraleError } from '../errors.ts'
import { type ClientPart, describeClientPart, readClientBlob } from '../model/client-part.ts'
import type { Model } from '../model/model.ts'
import type { ApiContext, ApiEnv } from './context.ts'
import { ApiError } from './errors.ts'
import { findModel } from './find-model.ts'

/**
 * What a page needs to be a client of its own: the description of a model's client part and its blobs. Nothing else
 * of the model's files can be asked for here.
 */

/** A blob stays in memory this long after it was asked for: a page fetches it in one go or resumes soon. */
const KEPT_MS = 30_000
/** Bytes written at once: a slow reader holds no copy of a whole blob. */
const PIECE_BYTES = 1 << 20

interface Kept {
  part?: Promise<ClientPart>
  readonly blobs: Map<
    string,
    { bytes: Promise<Uint8Array>; timer: ReturnType<typeof setTimeout> | undefined }
  >
}

const keptOf = new WeakMap<Model, Kept>()

/** `GET /api/v1/client/{model}`. @throws `ApiError` 404, `not_supported` without a tokenizer. */
export async function showClientPart(api: ApiContext, c: Context<ApiEnv>): Promise<Response> {
  const { model } = findModel(api.models(), c.req.param('model') ?? '')
  return c.json(await partOf(model))
}

/** `GET /api/v1/client/{model}/{blob}`: its bytes, from `Range: bytes=N-` on where one is asked for. */
export async function sendClientBlob(api: ApiContext, c: Context<ApiEnv>): Promise<Response> {
  const { model } = findModel(api.models(), c.req.param('model') ?? '')
  const name = c.req.param('blob') ?? ''
  const blob = (await partOf(model)).blobs.find((known) => known.name === name)
  if (blob === undefined) {
    throw new ApiError(
      404,
      'not_found_error',
      `the client's part of ${model.name} has no "${name.slice(0, 40)}"`,
    )
  }
  const size = blob.byteLength
  const headers = {
    'content-type': 'application/octet-stream',
    'cache-control': 'no-store',
    'accept-ranges': 'bytes',
    etag: `"${blob.sha256}"`,
  }
  const range = c.req.header('range')
  const from = range === undefined ? 0 : Number(/^bytes=(\d{1,15})-$/.exec(range)?.[1] ?? Number.NaN)
  if (!(from < size)) {
    return new Response(null, { status: 416, headers: { ...headers, 'content-range': `bytes */${size}` } })
  }
  const bytes = await blobOf(model, name)
  return new Response(inPieces(bytes.subarray(from)), {
    status: range === undefined ? 200 : 206,
    headers: {
      ...headers,
      'content-length': String(size - from),
      ...(range !== undefined && { 'content-range': `bytes ${from}-${size - 1}/${size}` }),
    },
  })
}

function keep(model: Model): Kept {
  let kept = keptOf.get(model)
  if (kept === undefined) keptOf.set(model, (kept = { blobs: new Map() }))
  return kept
}

async function partOf(model: Model): Promise<ClientPart> {
  const kept = keep(model)
  kept.part ??= describeClientPart(model)
  try {
    return await kept.part
  } catch (error) {
    // The next caller tries again: the file may be there by then.
    delete kept.part
    throw error instanceof ChoraleError && error.code === 'not_supported'
      ? new ApiError(404, 'not_found_error', error.message)
      : error
  }
}

async function blobOf(model: Model, name: string): Promise<Uint8Array> {
  const { blobs } = keep(model)
  const entry = blobs.get(name) ?? { bytes: readClientBlob(model, name), timer: undefined }
  blobs.set(name, entry)
  clearTimeout(entry.timer)
  entry.timer = setTimeout(() => blobs.delete(name), KEPT_MS)
  // A wait for a cache to empty keeps no process alive where timers can say so.
  ;(entry.timer as { unref?: () => void }).unref?.()
  try {
    return await entry.bytes
  } catch (error) {
    blobs.delete(name)
    throw error
  }
}

function inPieces(bytes: Uint8Array): ReadableStream<Uint8Array> {
  let at = 0
  return new ReadableStream({
    pull(controller) {
      // Copied: what is enqueued may be transferred, and the blob is others' too.
      if (at < bytes.length) controller.enqueue(bytes.slice(at, (at += PIECE_BYTES)))
      if (at >= bytes.length) controller.close()
    },
  })
}
