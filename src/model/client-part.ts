/**
 * A client's part of a model as a thing that travels: a description in JSON and a few blobs, whatever files the
 * model is kept in. A gateway gives it to pages, which never see a block's weights.
 */

import { ChoraleError } from '../errors.ts'
import { byteLength, isWeightDtype, type WeightDtype } from '../tensor/weight.ts'
import { hashBlob, isDigestHex, MAX_BLOB_BYTES } from './blob.ts'
import { isJsonObject, parseJsonObject } from './json.ts'
import type { ClientRole, Model, TokenizerFiles } from './model.ts'
import type { ModelSpec } from './spec.ts'
import { blockRoles, clientRoles } from './weights.ts'

/** Bytes that a client fetches whole. */
export interface ClientBlob {
  /** `tokenizer`, or the role of a weight. */
  readonly name: string
  readonly byteLength: number
  /** Hex. */
  readonly sha256: string
  /** Names the bytes for peers that have them; absent where the gateway's version does not say. */
  readonly root?: string
}

/** Which blob a weight is, and how its bytes are laid out. */
export interface ClientWeight {
  readonly blob: string
  readonly dtype: WeightDtype
  readonly shape: readonly number[]
}

/** What a client has to know before it fetches any blob. */
export interface ClientPart {
  readonly id: string
  readonly name: string
  readonly format: Model['format']
  readonly spec: ModelSpec
  readonly generationDefaults: Model['generationDefaults']
  /** Bytes of block 0's weights, for whoever thinks of serving; the others are about as large. */
  readonly blockBytes: number
  readonly blobs: readonly ClientBlob[]
  /** False: the gateway that described it gives neither its blobs nor blocks; peers may. */
  readonly given?: boolean
  /** By role; a tied head is the embedding's blob. */
  readonly weights: Readonly<Partial<Record<ClientRole, ClientWeight>>>
}

/** There are seven roles at most and the tokenizer. */
const MAX_BLOBS = 16
const TOKENIZER = 'tokenizer'

/** @throws `not_supported` when the model holds no tokenizer, `bad_file`. */
export async function describeClientPart(model: Model): Promise<ClientPart> {
  const { id, name, format, spec, generationDefaults } = model
  const weights: Partial<Record<ClientRole, ClientWeight>> = {}
  const names = [TOKENIZER]
  for (const role of clientRoles(spec)) {
    const { dtype, shape } = model.weights.clientInfo(role)
    const blob = role === 'head' && spec.tiedHead ? 'embedding' : role
    weights[role] = { blob, dtype, shape }
    if (!names.includes(blob)) names.push(blob)
  }
  const blobs: ClientBlob[] = []
  for (const blob of names) {
    const bytes = await readClientBlob(model, blob)
    const { root } = await hashBlob(bytes.length, async (at, length) => bytes.subarray(at, at + length))
    blobs.push({ name: blob, byteLength: bytes.length, sha256: await sha256Hex(bytes), root })
  }
  const blockBytes = blockRoles(spec).reduce((sum, role) => {
    const { dtype, shape } = model.weights.blockInfo(0, role)
    return sum + byteLength(dtype, shape)
  }, 0)
  return { id, name, format, spec, generationDefaults, blockBytes, blobs, weights }
}

/** The bytes of a blob by name. @throws `not_found`, `not_supported` without a tokenizer, `bad_file`. */
export async function readClientBlob(model: Model, name: string): Promise<Uint8Array> {
  if (name !== TOKENIZER) {
    const role = clientRoles(model.spec).find((known) => known === name)
    if (role !== undefined) return (await model.weights.client(role)).bytes
    throw new ChoraleError('not_found', `the client's part of ${model.name} has no "${name.slice(0, 40)}"`)
  }
  const files = await model.tokenizerFiles()
  if (files === undefined) {
    throw new ChoraleError('not_supported', `${model.name} holds no tokenizer (tokenizer.json is missing)`)
  }
  return new TextEncoder().encode(JSON.stringify(files))
}

/**
 * A model that holds a client's part only: its blocks are `not_found`. Blobs are checked against their SHA-256.
 * @param fetchBlob gives a blob's bytes, `byteLength` of them
 * @throws `bad_file` when the description is none; from reads: `bad_file`.
 */
export function openClientPart(
  description: unknown,
  fetchBlob: (blob: ClientBlob, signal?: AbortSignal) => Promise<Uint8Array>,
): Model {
  const part = checkClientPart(description)
  const blocks = (): never => {
    throw new ChoraleError('not_found', `a client of ${part.name} holds no blocks`)
  }
  const weight = (role: ClientRole): ClientWeight => {
    const found = part.weights[role]
    if (found === undefined) throw new ChoraleError('not_found', `${part.name} has no ${role}`)
    return found
  }
  const read = async (name: string, signal?: AbortSignal): Promise<Uint8Array> => {
    const blob = part.blobs.find((known) => known.name === name)
    if (blob === undefined) throw new ChoraleError('not_found', `${part.name} has no blob "${name}"`)
    return await fetchBlob(blob, signal)
  }
  return {
    id: part.id,
    name: part.name,
    format: part.format,
    spec: part.spec,
    generationDefaults: part.generationDefaults,
    weights: {
      blockInfo: blocks,
      block: async () => blocks(),
      clientInfo: (role) => weight(role),
      client: async (role, signal) => {
        const { blob, dtype, shape } = weight(role)
        return { dtype, shape, bytes: await read(blob, signal) }
      },
    },
    tokenizerFiles: async () => {
      const text = new TextDecoder().decode(await read(TOKENIZER))
      const { tokenizer, config, chatTemplate } = parseJsonObject(`${part.name}: tokenizer`, text)
      if (!isJsonObject(tokenizer) || !isJsonObject(config)) throw bad('tokenizer')
      return {
        tokenizer,
        config,
        chatTemplate: typeof chatTemplate === 'string' ? chatTemplate : undefined,
      } satisfies TokenizerFiles
    },
    close: async () => undefined,
  }
}

/**
 * Reads a description that came over the network.
 * NOT checked: the inner fields of `spec`; who serves a page serves its program too.
 * @throws `bad_file` naming the field.
 */
export function checkClientPart(value: unknown): ClientPart {
  if (!isJsonObject(value)) throw bad('the whole')
  const { id, name, format, spec, generationDefaults, blockBytes, blobs, given, weights } = value
  if (typeof id !== 'string' || !/^[A-Za-z0-9._-]{1,96}@[0-9a-f]{12}$/.test(id)) throw bad('id')
  if (typeof name !== 'string') throw bad('name')
  if (format !== 'safetensors' && format !== 'gguf') throw bad('format')
  if (!isJsonObject(spec) || !isCount(spec['hiddenSize']) || !isCount(spec['blockCount'])) throw bad('spec')
  if (!isJsonObject(generationDefaults)) throw bad('generationDefaults')
  if (!isCount(blockBytes)) throw bad('blockBytes')
  if (!Array.isArray(blobs) || blobs.length > MAX_BLOBS || !blobs.every(isBlob)) throw bad('blobs')
  if (given !== undefined && typeof given !== 'boolean') throw bad('given')
  if (!isJsonObject(weights)) throw bad('weights')
  for (const [role, weight] of Object.entries(weights)) checkWeight(role, weight, blobs)
  return {
    id,
    name,
    format,
    spec: { bosTokenId: undefined, ...spec } as unknown as ModelSpec,
    generationDefaults,
    blockBytes,
    blobs,
    ...(given !== undefined && { given }),
    weights,
  }
}

function checkWeight(role: string, weight: unknown, blobs: readonly ClientBlob[]): void {
  if (!isJsonObject(weight)) throw bad(`weights.${role}`)
  const { blob, dtype, shape } = weight
  if (typeof dtype !== 'string' || !isWeightDtype(dtype)) throw bad(`weights.${role}.dtype`)
  if (!Array.isArray(shape) || !shape.every(isCount)) throw bad(`weights.${role}.shape`)
  const stored = blobs.find((known) => known.name === blob)
  if (stored === undefined || stored.byteLength !== byteLength(dtype, shape))
    throw bad(`weights.${role}.blob`)
}

function isBlob(value: unknown): value is ClientBlob {
  if (!isJsonObject(value)) return false
  const { name, byteLength: bytes, root, sha256 } = value
  return (
    typeof name === 'string' &&
    /^[A-Za-z]{1,40}$/.test(name) &&
    isCount(bytes) &&
    bytes <= MAX_BLOB_BYTES &&
    isDigestHex(sha256) &&
    (root === undefined || isDigestHex(root))
  )
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) > 0
}

function bad(field: string): ChoraleError {
  return new ChoraleError('bad_file', `the description of the client's part is unusable: ${field}`, { field })
}

/** SHA-256 in hex, by the platform's own implementation. */
export async function sha256Hex(bytes: Uint8Array): Promise<string> {
  const digest = await crypto.subtle.digest('SHA-256', bytes as Uint8Array<ArrayBuffer>)
  return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, '0')).join('')
}
