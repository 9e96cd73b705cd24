import { ChoraleError } from '../errors.ts'
import type { FileStore } from '../platform.ts'
import type { ByteSource } from '../byte-source.ts'

/** The files of one model, wherever they are: a folder of this machine or a repository on a hub. */
export interface ModelFolder {
  /** For errors: a path or `org/repo`. */
  readonly name: string
  /** The file, or undefined when the folder holds none of that name. */
  open(file: string, signal?: AbortSignal): Promise<ByteSource | undefined>
}

/** A folder of this machine. */
export function localFolder(files: FileStore, path: string): ModelFolder {
  return {
    name: path,
    open: async (file) => {
      const full = `${path.replace(/\/+$/, '')}/${file}`
      return (await files.stat(full)) === 'file' ? await files.open(full) : undefined
    },
  }
}

/** @throws `not_found` when the folder lacks the file. */
export async function openRequired(
  folder: ModelFolder,
  file: string,
  signal?: AbortSignal,
): Promise<ByteSource> {
  const source = await folder.open(file, signal)
  if (source === undefined) throw new ChoraleError('not_found', `${folder.name}: no ${file}`, { field: file })
  return source
}
