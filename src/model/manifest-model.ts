import { ChoraleError } from '../errors.ts'
import { byteLength } from '../tensor/weight.ts'
import { isJsonObject, parseJsonObject } from './json.ts'
import { type WeightsManifest, partBlob } from './manifest.ts'
import type { ClientRole, Model } from './model.ts'
import type { PartName } from './part-bytes.ts'

/**
 * A model whose weights are parts that a manifest names.
 * @param called what people call it (default: the id's part before `@`), and the hub's revision
 * @param read bytes [offset, offset + length) of a part, checked against its root
 */
export function manifestModel(
  manifest: WeightsManifest,
  read: (name: PartName, offset: number, length: number, signal?: AbortSignal) => Promise<Uint8Array>,
  called: { readonly name?: string; readonly revision?: string } = {},
): Model {
  const { spec, modelId, modelFormat } = manifest
  const { name = modelId.slice(0, modelId.lastIndexOf('@')), revision } = called
  const blockInfo: Model['weights']['blockInfo'] = (block, role) => weightOf(block, role)
  const weightOf = (block: number, role: string) => {
    const layout = manifest.layouts[manifest.blocks[block]?.layout ?? -1]
    const weight = layout?.find((known) => known.role === role)
    if (weight !== undefined) return weight
    throw new ChoraleError('not_found', `${name} has no ${role} in block ${block}`, { field: role })
  }
  const clientOf = (role: ClientRole) => {
    const stored = role === 'head' && spec.tiedHead ? 'embedding' : role
    const weight = manifest.client[stored]
    if (weight !== undefined) return { part: stored, dtype: weight.dtype, shape: weight.shape }
    throw new ChoraleError('not_found', `${name} has no ${role}`, { field: role })
  }
  return {
    id: modelId,
    name,
    ...(revision !== undefined && { revision }),
    format: modelFormat,
    spec,
    generationDefaults: {},
    weights: {
      blockInfo,
      block: async (block, role, signal) => {
        const { dtype, shape, offset } = weightOf(block, role)
        const bytes = await read(`block.${block}`, offset, byteLength(dtype, shape), signal)
        return { dtype, shape, bytes }
      },
      clientInfo: (role) => {
        const { dtype, shape } = clientOf(role)
        return { dtype, shape }
      },
      client: async (role, signal) => {
        const { part, dtype, shape } = clientOf(role)
        return { dtype, shape, bytes: await read(part, 0, byteLength(dtype, shape), signal) }
      },
      blockRange: async (block, role, offset, length, signal) =>
        await read(`block.${block}`, weightOf(block, role).offset + offset, length, signal),
      clientRange: async (role, offset, length, signal) =>
        await read(clientOf(role).part, offset, length, signal),
    },
    tokenizerFiles: async () => {
      const blob = partBlob(manifest, 'tokenizer')
      if (blob === undefined) return undefined
      const text = new TextDecoder().decode(await read('tokenizer', 0, blob.byteLength))
      const { tokenizer, config, chatTemplate } = parseJsonObject(`${name}: tokenizer`, text)
      if (!isJsonObject(tokenizer) || !isJsonObject(config)) {
        throw new ChoraleError('bad_file', `${name}: the tokenizer is none`, { field: 'tokenizer' })
      }
      return { tokenizer, config, chatTemplate: typeof chatTemplate === 'string' ? chatTemplate : undefined }
    },
    close: async () => undefined,
  }
}
