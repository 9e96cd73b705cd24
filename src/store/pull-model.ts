import { ChoraleError } from '../errors.ts'
import { readJsonFile } from '../model/json.ts'
import { shardsOf } from '../model/safetensors.ts'
import type { HttpSource } from './http-source.ts'
import { locateModel, type ModelPorts, openHub, type ResolveOptions } from './resolve-model.ts'

const SMALL_FILES = [
  'config.json',
  'generation_config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'chat_template.jinja',
]
const INDEX = 'model.safetensors.index.json'

export interface PulledModel {
  readonly name: string
  readonly commit: string
  readonly files: readonly { readonly name: string; readonly size: number }[]
}

/**
 * Fetches everything of a hub model into the cache: all weights, not only a span's. What is there already is kept;
 * an interrupted pull goes on where it stopped.
 * @throws `bad_request` for a model that is no hub model; else as `resolveModel`.
 */
export async function pullModel(
  ref: string,
  ports: ModelPorts,
  options: ResolveOptions = {},
): Promise<PulledModel> {
  const { onProgress, revision, signal } = options
  const place = await locateModel(ref, ports)
  if (place.kind === 'local') {
    throw new ChoraleError('bad_request', `${ref} is on this machine (${place.path}): nothing to pull`)
  }
  let loadedBytes = 0
  let totalBytes = 0
  const got = (bytes: number) => {
    loadedBytes += bytes
    onProgress?.({ loadedBytes, totalBytes })
  }
  const folder = await openHub(place, ports, revision, { need: () => undefined, got }, signal)
  const sources: HttpSource[] = []
  const add = async (file: string, required: boolean) => {
    const source = await folder.open(file, signal)
    if (source !== undefined) sources.push(source)
    else if (required) throw new ChoraleError('not_found', `${place.repo}: no ${file}`, { field: file })
    return source
  }
  try {
    if (place.file !== undefined) await add(place.file, true)
    else {
      for (const file of SMALL_FILES) await add(file, file === 'config.json')
      const single = await add('model.safetensors', false)
      if (single === undefined) {
        const index = await add(INDEX, true)
        if (index !== undefined) {
          for (const shard of shardsOf(index.name, await readJsonFile(index, signal)).keys())
            await add(shard, true)
        }
      }
    }
    for (const source of sources) {
      const missing = await source.missingBytes()
      totalBytes += source.size
      loadedBytes += source.size - missing
    }
    onProgress?.({ loadedBytes, totalBytes })
    for (const source of sources) await source.prefetch([{ offset: 0, length: source.size }], signal)
    return {
      name: ref,
      commit: folder.commit,
      files: sources.map(({ name, size }) => ({ name: name.slice(place.repo.length + 1), size })),
    }
  } finally {
    await Promise.all(sources.map(async (source) => await source.close()))
  }
}
