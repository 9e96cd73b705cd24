/**
 * A block's weights as a thing that travels: a description and one run of bytes, whatever files the model is kept in.
 * A gateway gives it to pages that serve a span.
 */

import { ChoraleError } from '../errors.ts'
import { byteLength, isWeightDtype, type WeightDtype } from '../tensor/weight.ts'
import { hashBlob, isDigestHex, MAX_BLOB_BYTES } from './blob.ts'
import { type ClientPart, sha256Hex } from './client-part.ts'
import { isJsonObject } from './json.ts'
import type { BlockRole, Model, ModelWeights } from './model.ts'
import { blockRoles } from './weights.ts'

/** One weight's place in the block's bytes. */
export interface BlockWeight {
  readonly role: BlockRole
  readonly dtype: WeightDtype
  readonly shape: readonly number[]
  readonly offset: number
}

/** What a server has to know before it fetches a block's bytes. */
export interface BlockPart {
  readonly block: number
  readonly byteLength: number
  /** Hex. */
  readonly sha256: string
  /** Names the bytes for peers that have them; absent where the gateway's version does not say. */
  readonly root?: string
  readonly weights: readonly BlockWeight[]
}

/** A block of 1,024 experts has about 3,100. */
const MAX_WEIGHTS = 16_384
/** What every weight begins at a multiple of: its numbers can be read in place. */
const ALIGNMENT = 64

/** Where a block's weights lie in its bytes, without reading them. @throws as `readBlockPart`. */
export function blockLayout(model: Model, block: number): Pick<BlockPart, 'byteLength' | 'weights'> {
  if (!Number.isSafeInteger(block) || block < 0 || block >= model.spec.blockCount) {
    throw new ChoraleError('bad_request', `${model.name} has blocks 0 to ${model.spec.blockCount - 1}`, {
      field: 'block',
    })
  }
  const weights: BlockWeight[] = []
  let end = 0
  for (const role of blockRoles(model.spec)) {
    const { dtype, shape } = model.weights.blockInfo(block, role)
    weights.push({ role, dtype, shape, offset: end })
    end = Math.ceil((end + byteLength(dtype, shape)) / ALIGNMENT) * ALIGNMENT
  }
  return { byteLength: end, weights }
}

/** A block's bytes, every weight aligned. @throws `bad_request` for a block the model has not, `bad_file`. */
export async function readBlockPart(
  model: Model,
  block: number,
): Promise<{ readonly part: BlockPart; readonly bytes: Uint8Array }> {
  const { byteLength: size, weights } = blockLayout(model, block)
  const bytes = new Uint8Array(size)
  for (const { role, offset } of weights) bytes.set((await model.weights.block(block, role)).bytes, offset)
  const { root } = await hashBlob(size, async (at, length) => bytes.subarray(at, at + length))
  return { part: { block, byteLength: size, sha256: await sha256Hex(bytes), root, weights }, bytes }
}

/** Reads a description that came over the network. @throws `bad_file` naming the field. */
export function checkBlockPart(value: unknown, block: number): BlockPart {
  if (!isJsonObject(value) || value['block'] !== block) throw bad('block')
  const { byteLength: size, root, sha256, weights } = value
  if (!Number.isSafeInteger(size) || (size as number) < 1 || (size as number) > MAX_BLOB_BYTES) {
    throw bad('byteLength')
  }
  if (typeof sha256 !== 'string' || !/^[0-9a-f]{64}$/.test(sha256)) throw bad('sha256')
  if (root !== undefined && !isDigestHex(root)) throw bad('root')
  if (!Array.isArray(weights) || weights.length > MAX_WEIGHTS) throw bad('weights')
  for (const weight of weights as unknown[]) {
    if (!isJsonObject(weight)) throw bad('weights')
    const { role, dtype, shape, offset } = weight
    if (typeof role !== 'string' || typeof dtype !== 'string' || !isWeightDtype(dtype)) throw bad('dtype')
    if (!Array.isArray(shape) || shape.length > 4 || !shape.every((n) => Number.isSafeInteger(n) && n > 0)) {
      throw bad('shape')
    }
    const at = offset as number
    if (!Number.isSafeInteger(at) || at < 0 || at + byteLength(dtype, shape as number[]) > (size as number)) {
      throw bad('offset')
    }
  }
  return value as unknown as BlockPart
}

/**
 * Weights of the blocks in `parts`; blocks that are not there, and the client's weights, are `not_found`.
 * @param bytesOf a block's bytes, `byteLength` of them
 */
export function blockWeights(
  model: Pick<ClientPart, 'name'>,
  parts: readonly BlockPart[],
  bytesOf: (block: number) => Promise<Uint8Array>,
): ModelWeights {
  const weightOf = (block: number, role: BlockRole): BlockWeight => {
    const found = parts.find((part) => part.block === block)?.weights.find((weight) => weight.role === role)
    if (found === undefined) {
      throw new ChoraleError('not_found', `${role} of block ${block} of ${model.name} is not here`)
    }
    return found
  }
  const client = (): never => {
    throw new ChoraleError('not_found', `the client's part of ${model.name} is not here`)
  }
  return {
    blockInfo: weightOf,
    block: async (block, role) => {
      const { dtype, shape, offset } = weightOf(block, role)
      const bytes = await bytesOf(block)
      return { dtype, shape, bytes: bytes.subarray(offset, offset + byteLength(dtype, shape)) }
    },
    clientInfo: client,
    client: async () => client(),
  }
}

function bad(field: string): ChoraleError {
  return new ChoraleError('bad_file', `the description of a block is unusable: ${field}`, { field })
}
