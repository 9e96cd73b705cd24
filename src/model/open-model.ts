import { ChoraleError } from '../errors.ts'
import type { FileStore } from '../platform.ts'
import type { ByteSource } from '../byte-source.ts'
import { readConfig, readGenerationDefaults } from './config.ts'
import { openGguf } from './open-gguf.ts'
import { type JsonObject, readJsonFile, readTextFile } from './json.ts'
import { localFolder, type ModelFolder, openRequired } from './model-folder.ts'
import { modelId } from './model-id.ts'
import type { Model, TokenizerFiles } from './model.ts'
import { hasBlocks } from './quantised-safetensors.ts'
import { readSafetensors, readShardedSafetensors } from './safetensors.ts'
import type { TensorTable } from './tensor-table.ts'
import { weightsByRole, withStoredHead } from './weights.ts'

export interface OpenModelOptions {
  /** What to call the model; default: the folder's or file's name. */
  readonly name?: string
  readonly signal?: AbortSignal
}

/**
 * Opens a model of this machine: a folder in Hugging Face layout or a `.gguf` file. Reads headers, config and 64 KiB
 * of weights for the id; weights are read when asked for.
 * @throws `not_found`, `bad_file`, `not_supported`.
 */
export async function openModel(
  path: string,
  platform: { readonly files: FileStore },
  options: OpenModelOptions = {},
): Promise<Model> {
  const name = options.name ?? path.split('/').findLast((part) => part !== '' && part !== '.') ?? path
  const kind = await platform.files.stat(path)
  if (kind === 'file') {
    if (!path.endsWith('.gguf')) {
      throw new ChoraleError('not_supported', `${path}: a model is a folder or a .gguf file`)
    }
    return await openGguf(await platform.files.open(path), { ...options, name })
  }
  if (kind === 'nothing') throw new ChoraleError('not_found', `${path}: no such model folder or file`)
  return await openModelFolder(localFolder(platform.files, path), { ...options, name })
}

/** Opens a model in Hugging Face layout: config.json, safetensors single or sharded, tokenizer. Same errors. */
export async function openModelFolder(
  folder: ModelFolder,
  options: OpenModelOptions & { readonly name: string },
): Promise<Model> {
  const { name, signal } = options
  const sources: ByteSource[] = []
  const keep = (source: ByteSource) => {
    sources.push(source)
    return source
  }
  const close = async () => {
    await Promise.all(sources.splice(0).map(async (source) => await source.close()))
  }
  try {
    const config = await readJson(folder, 'config.json', signal)
    if (config === undefined) {
      throw new ChoraleError(
        'not_found',
        `${folder.name}: no config.json (is it a model in Hugging Face layout?)`,
      )
    }
    const generation = (await readJson(folder, 'generation_config.json', signal)) ?? {}
    const { quantization_config: _stored, ...plain } = config
    const { family, spec: configured } = readConfig(
      `${folder.name}/config.json`,
      hasBlocks(config) ? plain : config,
      generation,
    )
    const table = await readTable(folder, keep, signal)
    const spec = withStoredHead(configured, family.names, table)
    return {
      name,
      id: await modelId(name, config, table, signal),
      format: 'safetensors',
      spec,
      weights: weightsByRole({ modelName: name, spec, names: family.names, table }),
      tokenizerFiles: async () => await readTokenizerFiles(folder),
      generationDefaults: readGenerationDefaults(generation),
      close,
    }
  } catch (error) {
    await close()
    throw error
  }
}

/** The tensor table of a folder; `keep` gets every file opened. @throws `not_found`, `bad_file`. */
export async function readTable(
  folder: ModelFolder,
  keep: (source: ByteSource) => ByteSource,
  signal: AbortSignal | undefined,
): Promise<TensorTable> {
  const single = await folder.open('model.safetensors', signal)
  if (single !== undefined) return await readSafetensors(keep(single), signal)
  const index = await readJson(folder, 'model.safetensors.index.json', signal)
  if (index !== undefined) {
    const open = async (file: string) => keep(await openRequired(folder, file, signal))
    return await readShardedSafetensors(`${folder.name}/model.safetensors.index.json`, index, open, signal)
  }
  throw new ChoraleError(
    'not_found',
    `${folder.name}: no model.safetensors and no model.safetensors.index.json (pickled weights are not read: convert them)`,
  )
}

/** tokenizer.json, tokenizer_config.json and chat_template.jinja as they are; undefined without a tokenizer.json. */
async function readTokenizerFiles(folder: ModelFolder): Promise<TokenizerFiles | undefined> {
  const tokenizer = await readJson(folder, 'tokenizer.json')
  if (tokenizer === undefined) return undefined
  const config = (await readJson(folder, 'tokenizer_config.json')) ?? {}
  const file = await folder.open('chat_template.jinja')
  const chatTemplate =
    file === undefined ? templateOf(folder.name, config) : await closing(file, readTextFile)
  return { tokenizer, config, chatTemplate }
}

/** `chat_template` of a tokenizer_config.json: text, or a list of named texts of which `default` is taken. */
function templateOf(folder: string, config: JsonObject): string | undefined {
  const value = config['chat_template'] ?? undefined
  const named = Array.isArray(value)
    ? (value as unknown[]).find((entry) => (entry as JsonObject | null)?.['name'] === 'default')
    : undefined
  const text = named === undefined ? value : (named as JsonObject)['template']
  if (text === undefined || typeof text === 'string') return text
  throw new ChoraleError('bad_file', `${folder}/tokenizer_config.json: chat_template is no text`, {
    field: 'chat_template',
  })
}

async function readJson(
  folder: ModelFolder,
  file: string,
  signal?: AbortSignal,
): Promise<JsonObject | undefined> {
  const source = await folder.open(file, signal)
  return source === undefined
    ? undefined
    : await closing(source, async (open) => await readJsonFile(open, signal))
}

async function closing<T>(source: ByteSource, use: (source: ByteSource) => Promise<T>): Promise<T> {
  try {
    return await use(source)
  } finally {
    await source.close()
  }
}
