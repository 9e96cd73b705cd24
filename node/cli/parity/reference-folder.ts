import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { ChoraleError } from '../../../src/errors.ts'
import { readTensors } from '../../../src/model/safetensors.ts'
import { tensor, type Tensor } from '../../../src/tensor/tensor.ts'
import { openFile } from '../../file-store.ts'

/** Activations that Hugging Face transformers computed for a model, as `reference.safetensors` holds them. */
export interface Reference {
  readonly inputIds: readonly number[]
  /** hidden.0 … hidden.L, final, logits, decode_logits. */
  readonly tensors: ReadonlyMap<string, Tensor>
  readonly decodeIds: readonly number[]
}

/** The folder itself, or its sub-folders, that hold a reference. @throws `not_found`. */
export async function findReferenceFolders(directory: string): Promise<string[]> {
  if (await isFile(join(directory, 'reference.safetensors'))) return [directory]
  const names = await readdir(directory).catch(() => {
    throw new ChoraleError('not_found', `no folder at ${directory}`)
  })
  const folders: string[] = []
  for (const name of names.sort()) {
    if (await isFile(join(directory, name, 'reference.safetensors'))) folders.push(join(directory, name))
  }
  if (folders.length === 0) {
    throw new ChoraleError(
      'not_found',
      `${directory} holds no reference.safetensors, nor does any folder in it`,
    )
  }
  return folders
}

/** @throws `bad_file` naming the tensor that is missing or misshapen. */
export async function readReference(folder: string, fileName = 'reference.safetensors'): Promise<Reference> {
  const path = join(folder, fileName)
  const source = await openFile(path)
  try {
    const file = await readTensors(source)
    const tensors = new Map<string, Tensor>()
    for (const [name, { dtype, shape, data }] of file) {
      if (dtype !== 'F32' || !(data instanceof Float32Array)) continue
      if (shape.length !== 2)
        throw new ChoraleError('bad_file', `${path}: ${name} has ${shape.length} dimensions, not 2`, {
          field: name,
        })
      tensors.set(name, tensor(shape[0] as number, shape[1] as number, data))
    }
    const integers = (name: string): number[] => {
      const entry = file.get(name)
      if (entry === undefined || !(entry.data instanceof Int32Array)) {
        throw new ChoraleError('bad_file', `${path}: no int32 tensor ${name}`, { field: name })
      }
      return [...entry.data]
    }
    for (const name of ['hidden.0', 'final', 'logits']) {
      if (!tensors.has(name))
        throw new ChoraleError('bad_file', `${path}: no float32 tensor ${name}`, { field: name })
    }
    return { inputIds: integers('input_ids'), decodeIds: integers('decode_ids'), tensors }
  } finally {
    await source.close()
  }
}

async function isFile(path: string): Promise<boolean> {
  return await stat(path).then(
    (entry) => entry.isFile(),
    () => false,
  )
}
