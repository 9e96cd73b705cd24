/**
 * The parts of a model that travel as blobs – its blocks, the client's weights, the tokenizer – read by range, whatever
 * files the model is kept in, so that one piece costs the memory of one piece.
 */

import { ChoraleError } from '../errors.ts'
import { byteLength } from '../tensor/weight.ts'
import { blockLayout, type BlockPart } from './block-part.ts'
import { readClientBlob } from './client-part.ts'
import type { ClientRole, Model } from './model.ts'
import { clientRoles } from './weights.ts'

/** `tokenizer`, the role of a client's weight, or `block.N`. */
export type PartName = string

export interface PartReader {
  /** Bytes of a part. @throws `not_found` for a name the model has not, `not_supported` for a tokenizer it has not. */
  size(name: PartName): Promise<number>
  /** Bytes [offset, offset + length) of a part. NOT checked: that they lie inside. @throws as `size`, `bad_file`. */
  read(name: PartName, offset: number, length: number, signal?: AbortSignal): Promise<Uint8Array>
}

/** Names of a model's parts: the client's weights, a tied head as the embedding, and the blocks. */
export function partNames({ spec }: Model): readonly PartName[] {
  const client = clientRoles(spec).filter((role) => role !== 'head' || !spec.tiedHead)
  return [...client, ...Array.from({ length: spec.blockCount }, (_, block) => `block.${block}`)]
}

/** Reads parts of `model`, which stays open. */
export function createPartReader(model: Model): PartReader {
  const { weights, spec } = model
  const layouts = new Map<number, Pick<BlockPart, 'byteLength' | 'weights'>>()
  let tokenizer: Promise<Uint8Array> | undefined

  const blockOf = (name: PartName): number | undefined => {
    const digits = /^block\.(\d{1,5})$/.exec(name)?.[1]
    return digits === undefined ? undefined : Number(digits)
  }
  const layoutOf = (block: number) => {
    const layout = layouts.get(block) ?? blockLayout(model, block)
    layouts.set(block, layout)
    return layout
  }
  const roleOf = (name: PartName): ClientRole => {
    const role = clientRoles(spec).find((known) => known === name)
    if (role !== undefined) return role
    throw new ChoraleError('not_found', `${model.name} has no part "${name.slice(0, 40)}"`)
  }
  const tokenizerBytes = () => (tokenizer ??= readClientBlob(model, 'tokenizer'))

  return {
    size: async (name) => {
      const block = blockOf(name)
      if (block !== undefined) return layoutOf(block).byteLength
      if (name === 'tokenizer') return (await tokenizerBytes()).length
      const { dtype, shape } = weights.clientInfo(roleOf(name))
      return byteLength(dtype, shape)
    },
    read: async (name, offset, length, signal) => {
      const block = blockOf(name)
      if (name === 'tokenizer') return (await tokenizerBytes()).slice(offset, offset + length)
      if (block === undefined) {
        const role = roleOf(name)
        if (weights.clientRange) return await weights.clientRange(role, offset, length, signal)
        return (await weights.client(role, signal)).bytes.slice(offset, offset + length)
      }
      const bytes = new Uint8Array(length)
      for (const { role, dtype, shape, offset: start } of layoutOf(block).weights) {
        const from = Math.max(offset, start)
        const end = Math.min(offset + length, start + byteLength(dtype, shape))
        if (from >= end) continue
        const part = weights.blockRange
          ? await weights.blockRange(block, role, from - start, end - from, signal)
          : (await weights.block(block, role, signal)).bytes.subarray(from - start, end - start)
        bytes.set(part, from - offset)
      }
      return bytes
    },
  }
}
