/**
 * The manifest of a model's weights: its shape, how its blocks are laid out, and the root of every part. Whoever knows
 * the SHA-256 of the manifest's bytes can take everything else from anybody. Equal files give equal bytes.
 */

import { ChoraleError } from '../errors.ts'
import { byteLength, isWeightDtype } from '../tensor/weight.ts'
import type { BlockWeight } from './block-part.ts'
import { blockLayout } from './block-part.ts'
import { type BlobId, digestOf, hashBlob, isDigestHex, MAX_BLOB_BYTES, toHex } from './blob.ts'
import { checkSpec } from './check-spec.ts'
import { isJsonObject, type JsonObject, parseJsonObject } from './json.ts'
import type { ClientRole, Model, WeightTensor } from './model.ts'
import { createPartReader, type PartName, partNames } from './part-bytes.ts'
import type { ModelSpec } from './spec.ts'
import { blockRoles, blockShape, clientRoles, clientShape } from './weights.ts'

/** A client's weight as the manifest names it. */
export type ManifestWeight = BlobId & Omit<WeightTensor, 'bytes'>

export interface WeightsManifest {
  readonly modelId: string
  readonly modelFormat: Model['format']
  readonly spec: ModelSpec
  /** Absent where the model has none. */
  readonly tokenizer?: BlobId
  /** By role; a tied head is the embedding. */
  readonly client: Readonly<Partial<Record<ClientRole, ManifestWeight>>>
  /** Where weights lie in a block's bytes: one entry for all blocks that are alike. */
  readonly layouts: readonly (readonly BlockWeight[])[]
  readonly blocks: readonly (BlobId & { readonly layout: number })[]
}

/** A manifest with the bytes it came in. */
export interface NamedManifest {
  /** Hex SHA-256 of `bytes`. */
  readonly hash: string
  readonly bytes: Uint8Array
  readonly manifest: WeightsManifest
}

/** Defends memory against manifests made up; that of a model of 61 blocks with 256 experts each takes 50 KiB. */
export const MAX_MANIFEST_BYTES = 4 * 2 ** 20
const FORMAT = 'chorale-weights-1'
const MAX_LAYOUTS = 256
const MAX_WEIGHTS = 16_384

export interface DescribeOptions {
  readonly signal?: AbortSignal
  /** Called after each part, with its list of pieces. */
  readonly onPart?: (name: PartName, blob: BlobId & { readonly list: Uint8Array }) => void | Promise<void>
}

/** Reads all of a model's weights, a piece at a time, and describes them. @throws `bad_file`, `cancelled`. */
export async function describeWeights(model: Model, options: DescribeOptions = {}): Promise<NamedManifest> {
  const { onPart, signal } = options
  const reader = createPartReader(model)
  const describe = async (name: PartName): Promise<BlobId> => {
    const blob = await hashBlob(await reader.size(name), async (offset, length) => {
      signal?.throwIfAborted()
      return await reader.read(name, offset, length, signal)
    })
    await onPart?.(name, blob)
    return { root: blob.root, byteLength: blob.byteLength }
  }
  const layouts: (readonly BlockWeight[])[] = []
  const known = new Map<string, number>()
  const blocks: (BlobId & { layout: number })[] = []
  const client: Partial<Record<ClientRole, ManifestWeight>> = {}
  const tokenizer = (await model.tokenizerFiles()) && (await describe('tokenizer'))
  for (const name of partNames(model)) {
    if (!name.startsWith('block.')) {
      const { dtype, shape } = model.weights.clientInfo(name as ClientRole)
      client[name as ClientRole] = { ...(await describe(name)), dtype, shape }
      continue
    }
    const { weights } = blockLayout(model, blocks.length)
    const text = JSON.stringify(weights)
    const layout = known.get(text) ?? layouts.push(weights) - 1
    known.set(text, layout)
    blocks.push({ ...(await describe(name)), layout })
  }
  const { id: modelId, format: modelFormat } = model
  const spec = checkSpec(model.spec)
  const manifest = { modelId, modelFormat, spec, ...(tokenizer && { tokenizer }), client, layouts, blocks }
  const bytes = encodeManifest(manifest)
  return { hash: toHex(await digestOf(bytes)), bytes, manifest }
}

/** The one text of a manifest. */
export function encodeManifest(manifest: WeightsManifest): Uint8Array {
  return new TextEncoder().encode(JSON.stringify({ format: FORMAT, ...manifest }))
}

/**
 * Reads a manifest that anybody may have written: bounds, and that every weight has the shape that the spec wants.
 * NOT checked: that its bytes have the hash that is trusted; `hash` is what they have.
 * @throws `bad_file` naming the field.
 */
export async function parseManifest(bytes: Uint8Array): Promise<NamedManifest> {
  if (bytes.length > MAX_MANIFEST_BYTES) throw bad('length')
  const map = parseJsonObject('manifest of weights', new TextDecoder().decode(bytes))
  if (map['format'] !== FORMAT) throw bad('format')
  const { modelFormat, modelId } = map
  if (typeof modelId !== 'string' || !/^[A-Za-z0-9._-]{1,96}@[0-9a-f]{12}$/.test(modelId))
    throw bad('modelId')
  if (modelFormat !== 'safetensors' && modelFormat !== 'gguf') throw bad('modelFormat')
  const spec = checkSpec(map['spec'])
  const layouts = readLayouts(map['layouts'], spec)
  const manifest: WeightsManifest = {
    modelId,
    modelFormat,
    spec,
    ...(map['tokenizer'] !== undefined && { tokenizer: blobOf(map['tokenizer'], 'tokenizer') }),
    client: readClient(map['client'], spec),
    layouts,
    blocks: readBlocks(map['blocks'], spec, layouts),
  }
  return { hash: toHex(await digestOf(bytes)), bytes, manifest }
}

/** A part's blob; undefined for a name the manifest has not. */
export function partBlob({ blocks, client, tokenizer }: WeightsManifest, name: PartName): BlobId | undefined {
  const block = /^block\.(\d{1,5})$/.exec(name)?.[1]
  if (block !== undefined) return blocks[Number(block)]
  return name === 'tokenizer' ? tokenizer : client[name as ClientRole]
}

function readLayouts(value: unknown, spec: ModelSpec): readonly (readonly BlockWeight[])[] {
  if (!Array.isArray(value) || value.length > MAX_LAYOUTS) throw bad('layouts')
  const roles = blockRoles(spec)
  if (roles.length > MAX_WEIGHTS) throw bad('spec')
  return (value as unknown[]).map((layout) => {
    if (!Array.isArray(layout) || layout.length !== roles.length) throw bad('layouts')
    let end = 0
    return roles.map((role, index) => {
      const weight: unknown = layout[index]
      if (!isJsonObject(weight) || weight['role'] !== role) throw bad(`layouts.${role}`)
      const { dtype, offset } = weight
      const shape = shapeOf(weight, blockShape(spec, role), role)
      if (typeof dtype !== 'string' || !isWeightDtype(dtype)) throw bad(`layouts.${role}.dtype`)
      if (!Number.isSafeInteger(offset) || (offset as number) < end) throw bad(`layouts.${role}.offset`)
      end = (offset as number) + byteLength(dtype, shape)
      return { role, dtype, shape, offset: offset as number }
    })
  })
}

function readBlocks(value: unknown, spec: ModelSpec, layouts: WeightsManifest['layouts']) {
  if (!Array.isArray(value) || value.length !== spec.blockCount) throw bad('blocks')
  return (value as unknown[]).map((entry) => {
    const blob = blobOf(entry, 'blocks')
    const layout = (entry as JsonObject)['layout']
    const last = typeof layout === 'number' ? layouts[layout]?.at(-1) : undefined
    if (last === undefined) throw bad('blocks.layout')
    if (last.offset + byteLength(last.dtype, last.shape) > blob.byteLength) throw bad('blocks.byteLength')
    return { ...blob, layout: layout as number }
  })
}

function readClient(value: unknown, spec: ModelSpec): WeightsManifest['client'] {
  if (!isJsonObject(value)) throw bad('client')
  const client: Partial<Record<ClientRole, ManifestWeight>> = {}
  for (const role of clientRoles(spec)) {
    if (role === 'head' && spec.tiedHead) continue
    const weight = value[role]
    const blob = blobOf(weight, `client.${role}`)
    const { dtype } = weight as JsonObject
    const shape = shapeOf(weight as JsonObject, clientShape(spec, role), role)
    if (typeof dtype !== 'string' || !isWeightDtype(dtype)) throw bad(`client.${role}.dtype`)
    if (byteLength(dtype, shape) !== blob.byteLength) throw bad(`client.${role}.byteLength`)
    client[role] = { ...blob, dtype, shape }
  }
  return client
}

function shapeOf(weight: JsonObject, wanted: readonly number[], role: string): readonly number[] {
  const { shape } = weight
  const same =
    Array.isArray(shape) && shape.length === wanted.length && wanted.every((size, i) => shape[i] === size)
  if (!same) throw bad(`${role}.shape`)
  return wanted
}

function blobOf(value: unknown, field: string): BlobId {
  if (!isJsonObject(value)) throw bad(field)
  const { root, byteLength: size } = value
  if (!isDigestHex(root)) throw bad(`${field}.root`)
  if (!Number.isSafeInteger(size) || (size as number) < 1 || (size as number) > MAX_BLOB_BYTES) {
    throw bad(`${field}.byteLength`)
  }
  return { root, byteLength: size as number }
}

function bad(field: string): ChoraleError {
  return new ChoraleError('bad_file', `the manifest of weights is unusable: ${field}`, { field })
}
