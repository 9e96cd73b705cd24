import { join } from 'node:path'
import { type ByteSource, memorySource } from '../../src/byte-source.ts'
import type { ModelFolder } from '../../src/model/model-folder.ts'
import type { ModelSpec, RopeSpec } from '../../src/model/spec.ts'

export const VECTORS = join(import.meta.dirname, '../vectors')
export const BUNDLED = join(import.meta.dirname, '../../models/storyteller')
/** Big real models, beside the repository where there are any. */
export const SHARED_MODELS = join(import.meta.dirname, '../../../shared/models')

/** The rotary positions of a spec that has them. */
export function ropeOf(spec: ModelSpec): RopeSpec {
  if (spec.positions.kind !== 'rope') throw new Error('no rotary positions')
  return spec.positions
}

/** A model folder in memory. */
export function memoryFolder(files: Readonly<Record<string, Uint8Array | string>>): ModelFolder {
  return {
    name: 'memory',
    open: async (file) => {
      const content = files[file]
      if (content === undefined) return undefined
      return memorySource(
        `memory/${file}`,
        typeof content === 'string' ? new TextEncoder().encode(content) : content,
      )
    },
  }
}

/** A source that notes every range that is read. */
export function countingSource(
  source: ByteSource,
): ByteSource & { readonly reads: { offset: number; length: number }[] } {
  const reads: { offset: number; length: number }[] = []
  return {
    ...source,
    reads,
    read: async (offset, length, signal) => {
      reads.push({ offset, length })
      return await source.read(offset, length, signal)
    },
  }
}

/** A safetensors file with any header, right or wrong. */
export function rawSafetensors(header: unknown, dataBytes: number, headerLength?: bigint): Uint8Array {
  const json = new TextEncoder().encode(typeof header === 'string' ? header : JSON.stringify(header))
  const file = new Uint8Array(8 + json.length + dataBytes)
  new DataView(file.buffer).setBigUint64(0, headerLength ?? BigInt(json.length), true)
  file.set(json, 8)
  return file
}
