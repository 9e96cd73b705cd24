import { byteLength, type WeightDtype, type WeightTensor } from '../tensor/weight.ts'
import type { Model } from './model.ts'
import { blockRoles, clientRoles } from './weights.ts'

/** What a model weighs, as stored in its files. */
export interface ModelWeight {
  /** Bytes of each block's weights. */
  readonly blockBytes: readonly number[]
  /** Bytes of embedding, final norm and, unless tied, head. */
  readonly clientBytes: number
  /** Bytes stored in each dtype, most first. */
  readonly dtypeBytes: Readonly<Partial<Record<WeightDtype, number>>>
  readonly totalBytes: number
}

/** Adds up a model's tensor table; reads no weights. @throws `not_found`, `bad_file`, `not_supported` naming the tensor. */
export function weighModel(model: Model): ModelWeight {
  const { spec, weights } = model
  const byDtype = new Map<WeightDtype, number>()
  const weigh = ({ dtype, shape }: Omit<WeightTensor, 'bytes'>) => {
    const bytes = byteLength(dtype, shape)
    byDtype.set(dtype, (byDtype.get(dtype) ?? 0) + bytes)
    return bytes
  }
  const sum = (sizes: readonly number[]) => sizes.reduce((total, bytes) => total + bytes, 0)
  const roles = blockRoles(spec)
  const blockBytes = Array.from({ length: spec.blockCount }, (_, block) =>
    sum(roles.map((role) => weigh(weights.blockInfo(block, role)))),
  )
  const stored = clientRoles(spec).filter((role) => role !== 'head' || !spec.tiedHead)
  const clientBytes = sum(stored.map((role) => weigh(weights.clientInfo(role))))
  return {
    blockBytes,
    clientBytes,
    dtypeBytes: Object.fromEntries([...byDtype].sort(([, a], [, b]) => b - a)),
    totalBytes: sum(blockBytes) + clientBytes,
  }
}
