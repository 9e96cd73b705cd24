import type { Context } from 'hono'
import { ChoraleError } from '../errors.ts'
import { type ClientPart, describeClientPart, readClientBlob } from '../model/client-part.ts'
import { readBlockPart } from '../model/block-part.ts'
import type { Model } from '../model/model.ts'
import type { ApiContext, ApiEnv } from './context.ts'
import { ApiError } from './errors.ts'
import { findModel } from './find-model.ts'

/**
 * What a page needs to be a client of its own, the description of a model's client part and its blobs, and what it
 * needs to serve: blocks. Other parts of the model's files can't be asked for here.
 */

/** A blob stays in memory this long after it was asked for: a page fetches it in one go or resumes soon. */
const KEPT_MS = 30_000
/** Blobs kept at once, those asked for last: pages that ask for many different blocks must not fill the memory. */
const MAX_KEPT = 8
/** Bytes written at once: a slow reader holds no copy of a whole blob. */
const PIECE_BYTES = 1 << 20

interface Kept {
  readonly value: Promise<unknown>
  timer: ReturnType<typeof setTimeout> | undefined
}

const parts = new WeakMap<Model, Promise<ClientPart>>()
const keptOf = new WeakMap<Model, Map<string, Kept>>()

/** `GET /api/v1/client/{model}`. @throws `ApiError` 404, `not_supported` without a tokenizer. */
export async function showClientPart(api: ApiContext, c: Context<ApiEnv>): Promise<Response> {
  const model = offeredModel(api, c)
  return c.json({ ...(await partOf(model)), ...(isGiven(api, model) ? {} : { given: false }) })
}

/** `GET /api/v1/client/{model}/{blob}`: its bytes, or those of `Range: bytes=N-` or `bytes=N-M`. */
export async function sendClientBlob(api: ApiContext, c: Context<ApiEnv>): Promise<Response> {
  const model = offeredModel(api, c)
  checkGiven(api, model)
  const name = c.req.param('blob') ?? ''
  const blob = (await partOf(model)).blobs.find((known) => known.name === name)
  if (blob === undefined) {
    throw new ApiError(
      404,
      'not_found_error',
      `the client's part of ${model.name} has no "${name.slice(0, 40)}"`,
    )
  }
  return await send(c, blob, () => kept(model, name, () => readClientBlob(model, name)))
}

/** `GET /api/v1/blocks/{model}/{block}`: what a block's bytes hold. @throws `ApiError` 404. */
export async function showBlockPart(api: ApiContext, c: Context<ApiEnv>): Promise<Response> {
  const { part } = await blockOf(api, c)
  return c.json(part)
}

/** `GET /api/v1/blocks/{model}/{block}/bytes`, with `Range` as above. */
export async function sendBlock(api: ApiContext, c: Context<ApiEnv>): Promise<Response> {
  checkGiven(api, offeredModel(api, c))
  const { part, bytes } = await blockOf(api, c)
  return await send(c, part, async () => bytes)
}

/** @throws `ApiError` 404 where weights are left to peers. */
function checkGiven(api: ApiContext, model: Model): void {
  if (isGiven(api, model)) return
  throw new ApiError(404, 'not_found_error', 'this gateway gives no weights: peers of the network do')
}

function isGiven(api: ApiContext, model: Model): boolean {
  return api.givesWeights !== false || api.drafts?.().includes(model) === true
}

/** A model that is asked here, or a draft for pages, by its id. @throws `ApiError` 404. */
function offeredModel(api: ApiContext, c: Context<ApiEnv>): Model {
  const name = c.req.param('model') ?? ''
  return api.drafts?.().find((draft) => draft.id === name) ?? findModel(api.models(), name).model
}

async function blockOf(api: ApiContext, c: Context<ApiEnv>) {
  const model = offeredModel(api, c)
  const text = c.req.param('block') ?? ''
  const block = /^\d{1,5}$/.test(text) ? Number(text) : -1
  if (block < 0 || block >= model.spec.blockCount) {
    throw new ApiError(404, 'not_found_error', `${model.name} has blocks 0 to ${model.spec.blockCount - 1}`)
  }
  return await kept(model, `block ${block}`, () => readBlockPart(model, block))
}

async function send(
  c: Context<ApiEnv>,
  { byteLength: size, sha256 }: { readonly byteLength: number; readonly sha256: string },
  read: () => Promise<Uint8Array>,
): Promise<Response> {
  const headers = {
    'content-type': 'application/octet-stream',
    'cache-control': 'no-store',
    'accept-ranges': 'bytes',
    etag: `"${sha256}"`,
  }
  const range = c.req.header('range')
  const asked = range === undefined ? undefined : /^bytes=(\d{1,15})-(\d{0,15})$/.exec(range)
  const from = range === undefined ? 0 : Number(asked?.[1] ?? Number.NaN)
  const end = Math.min(size, asked?.[2] ? Number(asked[2]) + 1 : size)
  if (!(from < end)) {
    return new Response(null, { status: 416, headers: { ...headers, 'content-range': `bytes */${size}` } })
  }
  const bytes = await read()
  return new Response(inPieces(bytes.subarray(from, end)), {
    status: range === undefined ? 200 : 206,
    headers: {
      ...headers,
      'content-length': String(end - from),
      ...(range !== undefined && { 'content-range': `bytes ${from}-${end - 1}/${size}` }),
    },
  })
}

async function partOf(model: Model): Promise<ClientPart> {
  let part = parts.get(model)
  if (part === undefined) parts.set(model, (part = describeClientPart(model)))
  try {
    return await part
  } catch (error) {
    // The next caller tries again: the file may be there by then.
    parts.delete(model)
    throw error instanceof ChoraleError && error.code === 'not_supported'
      ? new ApiError(404, 'not_found_error', error.message)
      : error
  }
}

/** What `read` gives, from memory when it was asked for a moment ago. */
async function kept<T>(model: Model, name: string, read: () => Promise<T>): Promise<T> {
  let entries = keptOf.get(model)
  if (entries === undefined) keptOf.set(model, (entries = new Map()))
  const entry = entries.get(name) ?? { value: read(), timer: undefined }
  // The order of a map is that of its insertions: the first one was asked for longest ago.
  entries.delete(name)
  entries.set(name, entry)
  for (const [oldest, { timer }] of entries) {
    if (entries.size <= MAX_KEPT) break
    clearTimeout(timer)
    entries.delete(oldest)
  }
  clearTimeout(entry.timer)
  entry.timer = setTimeout(() => entries.delete(name), KEPT_MS)
  // A wait for a cache to empty keeps no process alive where timers can say so.
  ;(entry.timer as { unref?: () => void }).unref?.()
  try {
    return (await entry.value) as T
  } catch (error) {
    entries.delete(name)
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
