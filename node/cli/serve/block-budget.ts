import { totalmem } from 'node:os'
import { ChoraleError } from '../../../src/errors.ts'
import type { Model } from '../../../src/model/model.ts'
import { kvBytesPerToken } from '../../../src/model/spec.ts'
import { blockRoles } from '../../../src/model/weights.ts'

/** Without --max-memory: this part of the machine's memory. */
export const DEFAULT_SHARE = 0.5
/** What the process takes without any block: runtime, libp2p, engine. Measured 150–200 MB on Node 24. */
export const BASE_BYTES = 250e6

/** Bytes one block takes in memory: float32 weights of the largest block and its KV cache of `kvTokens`. */
export function blockBytes(model: Model, kvTokens: number): number {
  const { spec, weights } = model
  let largest = 0
  for (let block = 0; block < spec.blockCount; block++) {
    const values = blockRoles(spec).map((role) =>
      weights.blockInfo(block, role).shape.reduce((product, size) => product * size, 1),
    )
    largest = Math.max(
      largest,
      values.reduce((sum, count) => sum + count, 0),
    )
  }
  return largest * 4 + kvBytesPerToken(spec, 1) * kvTokens
}

/** How many blocks fit into `maxMemory` bytes, at most all. @throws `capacity` when not even one fits. */
export function blocksThatFit(
  model: Model,
  kvTokens: number,
  maxMemory = totalmem() * DEFAULT_SHARE,
): number {
  const each = blockBytes(model, kvTokens)
  const count = Math.floor((maxMemory - BASE_BYTES) / each)
  if (count < 1) {
    const need = Math.ceil((BASE_BYTES + each) / 1e6)
    throw new ChoraleError(
      'capacity',
      `one block of ${model.name} with a KV cache of ${kvTokens} tokens needs ${need} MB, allowed are ${Math.floor(maxMemory / 1e6)} MB: raise --max-memory or lower --kv-tokens`,
      { field: 'max-memory' },
    )
  }
  return Math.min(count, model.spec.blockCount)
}
