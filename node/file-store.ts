import { open, readdir, readFile, stat } from 'node:fs/promises'
import { ChoraleError } from '../src/errors.ts'
import { type ByteSource, checkRange } from '../src/byte-source.ts'
import type { FileStore } from '../src/platform.ts'

/** One read call of the system returns at most 2 GiB. */
const MAX_READ = 2 ** 30

/** The disk of this machine. */
export function createFileStore(): FileStore {
  return {
    open: openFile,
    readText: async (path) => await readFile(path, 'utf8').catch((error: unknown) => fail(path, error)),
    stat: async (path) => {
      try {
        const entry = await stat(path)
        return entry.isDirectory() ? 'folder' : entry.isFile() ? 'file' : 'nothing'
      } catch (error) {
        if (isMissing(error)) return 'nothing'
        return fail(path, error)
      }
    },
    list: async (path) => {
      const names = await readdir(path).catch((error: unknown) => fail(path, error))
      return names.sort()
    },
  }
}

/** Opens a file for range reads. @throws `not_found`, `bad_file` when it is none that can be read. */
export async function openFile(path: string): Promise<ByteSource> {
  const handle = await open(path, 'r').catch((error: unknown) => fail(path, error))
  const { size } = await handle.stat()
  let closed = false
  return {
    name: path,
    size,
    read: async (offset, length, signal) => {
      checkRange(path, size, offset, length)
      const bytes = new Uint8Array(length)
      let done = 0
      while (done < length) {
        signal?.throwIfAborted()
        const { bytesRead } = await handle.read(bytes, done, Math.min(length - done, MAX_READ), offset + done)
        if (bytesRead === 0) checkRange(path, offset + done, offset, length) // cut since it was opened
        done += bytesRead
      }
      return bytes
    },
    close: async () => {
      if (closed) return
      closed = true
      await handle.close()
    },
  }
}

function isMissing(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException | null)?.code
  return code === 'ENOENT' || code === 'ENOTDIR'
}

function fail(path: string, error: unknown): never {
  if (isMissing(error))
    throw new ChoraleError('not_found', `${path}: no such file or folder`, { cause: error })
  const reason = error instanceof Error ? error.message : String(error)
  throw new ChoraleError('bad_file', `${path}: ${reason}`, { cause: error })
}
