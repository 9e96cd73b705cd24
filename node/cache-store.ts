import { createHash, randomUUID } from 'node:crypto'
import { constants } from 'node:fs'
import {
  type FileHandle,
  lstat,
  mkdir,
  open,
  readdir,
  readFile,
  rename,
  rm,
  writeFile,
} from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { ChoraleError } from '../src/errors.ts'
import type { CacheFile, CacheStore } from '../src/store/cache-store.ts'

/** A cache in a folder of the disk, made when first written to. */
export function createCacheStore(folder: string): CacheStore {
  const at = (path: string) => {
    if (path.split('/').some((part) => part === '' || part === '.' || part === '..')) {
      throw new ChoraleError('internal', `"${path}" is no path inside the cache`)
    }
    return join(folder, path)
  }
  return {
    name: folder,
    open: async (path) => {
      const file = at(path)
      return await guarded(folder, async () => {
        await mkdir(dirname(file), { recursive: true })
        return cacheFile(folder, await open(file, constants.O_RDWR | constants.O_CREAT, 0o644), file)
      })
    },
    readText: async (path) =>
      await guarded(folder, async () => await orUndefined(async () => await readFile(at(path), 'utf8'))),
    writeText: async (path, text) => {
      const file = at(path)
      await guarded(folder, async () => {
        await mkdir(dirname(file), { recursive: true })
        const temporary = `${file}.${randomUUID()}.tmp`
        await writeFile(temporary, text)
        await rename(temporary, file)
      })
    },
    list: async (path) =>
      await guarded(folder, async () => {
        const names = (await orUndefined(async () => await readdir(at(path)))) ?? []
        return names.filter((name) => !name.endsWith('.tmp')).sort()
      }),
    diskBytes: async (path) => await guarded(folder, async () => await diskBytes(at(path))),
    remove: async (path) => {
      await guarded(folder, async () => await rm(at(path), { recursive: true, force: true }))
    },
  }
}

function cacheFile(folder: string, handle: FileHandle, path: string): CacheFile {
  // A promise, so that appends at once open one handle.
  let appender: Promise<FileHandle> | undefined
  return {
    size: async () => (await handle.stat()).size,
    read: async (offset, length) => {
      const bytes = new Uint8Array(length)
      let done = 0
      while (done < length) {
        const { bytesRead } = await handle.read(bytes, done, length - done, offset + done)
        if (bytesRead === 0) break
        done += bytesRead
      }
      return bytes.subarray(0, done)
    },
    write: async (offset, bytes) => {
      await guarded(folder, async () => {
        let done = 0
        while (done < bytes.length) {
          const { bytesWritten } = await handle.write(bytes, done, bytes.length - done, offset + done)
          done += bytesWritten
        }
      })
    },
    append: async (bytes) => {
      await guarded(folder, async () => {
        // O_APPEND: lines of several processes do not overwrite each other.
        appender ??= open(path, 'a')
        await (await appender).write(bytes)
      })
    },
    sha256: async () => {
      const hash = createHash('sha256')
      const buffer = new Uint8Array(4 * 2 ** 20)
      for (let at = 0; ;) {
        const { bytesRead } = await handle.read(buffer, 0, buffer.length, at)
        if (bytesRead === 0) return hash.digest('hex')
        hash.update(buffer.subarray(0, bytesRead))
        at += bytesRead
      }
    },
    close: async () => {
      await Promise.all([
        handle.close(),
        appender?.then(
          (opened) => opened.close(),
          () => undefined,
        ),
      ])
    },
  }
}

async function diskBytes(path: string): Promise<number> {
  const entry = await orUndefined(async () => await lstat(path))
  if (entry === undefined) return 0
  // `blocks` counts what is really there, in units of 512 bytes.
  if (!entry.isDirectory()) return Math.min(entry.size, entry.blocks * 512)
  let total = 0
  for (const name of await readdir(path)) total += await diskBytes(join(path, name))
  return total
}

async function orUndefined<T>(read: () => Promise<T>): Promise<T | undefined> {
  try {
    return await read()
  } catch (error) {
    if ((error as NodeJS.ErrnoException | null)?.code === 'ENOENT') return undefined
    throw error
  }
}

/** Says what a person can do when the disk refuses. */
async function guarded<T>(folder: string, use: () => Promise<T>): Promise<T> {
  try {
    return await use()
  } catch (error) {
    if (error instanceof ChoraleError) throw error
    const code = (error as NodeJS.ErrnoException | null)?.code
    if (code === 'ENOSPC' || code === 'EDQUOT') {
      throw new ChoraleError(
        'capacity',
        `no room on the disk of ${folder}: free some, or set XDG_CACHE_HOME`,
        {
          cause: error,
        },
      )
    }
    const reason = error instanceof Error ? error.message : String(error)
    throw new ChoraleError('bad_file', `cache ${folder}: ${reason} (XDG_CACHE_HOME sets another folder)`, {
      cause: error,
    })
  }
}
