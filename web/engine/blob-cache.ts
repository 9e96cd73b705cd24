import { ChoraleError, errorMessage } from '../../src/errors.ts'
import type { CacheFile, CacheStore } from '../../src/store/cache-store.ts'
import { CHUNK_BYTES } from '../../src/store/chunk-file.ts'

/** Everything is in one folder of the browser's private file system, which only this site sees. */
const FOLDER = 'weights-cache'
/** The folder of versions before, which knew no pieces. */
const OLD_FOLDER = 'client-parts'

/**
 * The browser's private file system as a cache. In a worker files are read and written, each by one tab at a time; on
 * the page they are only read, also while a worker writes them.
 */
export function opfsCache(): CacheStore {
  const folderOf = async (names: readonly string[], create: boolean): Promise<FileSystemDirectoryHandle> => {
    let folder = await navigator.storage.getDirectory()
    for (const name of [FOLDER, ...names])
      folder = await folder.getDirectoryHandle(fileName(name), { create })
    return folder
  }
  const split = (path: string): readonly [folders: readonly string[], name: string] => {
    const names = path.split('/')
    return [names.slice(0, -1), names.at(-1) ?? '']
  }
  const inWorker = typeof document === 'undefined'
  return {
    name: 'the browser',
    open: async (path) => {
      const [folders, name] = split(path)
      return await guarded(async () => {
        const folder = await folderOf(folders, inWorker)
        const file = await folder.getFileHandle(fileName(name), { create: inWorker })
        return inWorker ? workerFile(await file.createSyncAccessHandle()) : pageFile(file)
      })
    },
    readText: async (path) => {
      const [folders, name] = split(path)
      return await orUndefined(async () => {
        const file = await (await folderOf(folders, false)).getFileHandle(fileName(name))
        return await (await file.getFile()).text()
      })
    },
    writeText: async (path, text) => {
      const [folders, name] = split(path)
      await guarded(async () => {
        const file = await (await folderOf(folders, true)).getFileHandle(fileName(name), { create: true })
        const stream = await file.createWritable()
        await stream.write(text)
        await stream.close()
      })
    },
    list: async (path) => {
      const names = await orUndefined(async () => {
        const found: string[] = []
        for await (const name of (await folderOf(path.split('/'), false)).keys()) found.push(name)
        return found
      })
      return (names ?? []).sort()
    },
    diskBytes: async () => await cachedBytes(),
    remove: async (path) => {
      const [folders, name] = split(path)
      await orUndefined(async () => {
        await (await folderOf(folders, false)).removeEntry(fileName(name), { recursive: true })
      })
    },
  }
}

/** Bytes of weights that are in the browser's private file system: whole pieces, holes not counted. */
export async function cachedBytes(): Promise<number> {
  let sum = 0
  await orUndefined(async () => {
    const root = await navigator.storage.getDirectory()
    const blobs = await (
      await (await root.getDirectoryHandle(FOLDER)).getDirectoryHandle('weights')
    ).getDirectoryHandle('blobs')
    const sizes = new Map<string, number>()
    const pieces = new Map<string, number>()
    for await (const [name, handle] of blobs.entries()) {
      if (handle.kind !== 'file') continue
      const file = await handle.getFile()
      if (name.endsWith('.list')) continue
      if (!name.endsWith('.chunks')) sizes.set(name, file.size)
      else pieces.set(name.slice(0, -7), new Set((await file.text()).match(/^\d+(?= )/gm)).size)
    }
    for (const [name, size] of sizes) sum += Math.min(size, (pieces.get(name) ?? 0) * CHUNK_BYTES)
  })
  return sum
}

/** Removes all that is kept; files that are open stay until they are closed. */
export async function clearCache(): Promise<void> {
  for (const folder of [FOLDER, OLD_FOLDER]) {
    try {
      await (await navigator.storage.getDirectory()).removeEntry(folder, { recursive: true })
    } catch (error) {
      if (!isMissing(error)) throw error
    }
  }
}

/** A cache that ends with the worker, where there is no private file system or another tab writes the same file. */
export function memoryCache(): CacheStore {
  const files = new Map<string, { bytes: Uint8Array; size: number }>()
  const texts = new Map<string, string>()
  return {
    name: 'memory',
    open: async (path) => {
      const file = files.get(path) ?? { bytes: new Uint8Array(), size: 0 }
      files.set(path, file)
      const write = async (offset: number, bytes: Uint8Array): Promise<void> => {
        const end = offset + bytes.length
        if (end > file.bytes.length) {
          const larger = new Uint8Array(Math.max(end, file.bytes.length * 2))
          larger.set(file.bytes.subarray(0, file.size))
          file.bytes = larger
        }
        file.bytes.set(bytes, offset)
        file.size = Math.max(file.size, end)
      }
      return {
        size: async () => file.size,
        read: async (offset, length) => file.bytes.slice(offset, Math.min(file.size, offset + length)),
        write,
        append: (bytes) => write(file.size, bytes),
        sha256: async () => await sha256Of(file.bytes.subarray(0, file.size)),
        close: async () => undefined,
      }
    },
    readText: async (path) => texts.get(path),
    writeText: async (path, text) => void texts.set(path, text),
    list: async (path) =>
      [...files.keys()]
        .filter((name) => name.startsWith(`${path}/`))
        .map((name) => name.slice(path.length + 1)),
    diskBytes: async () => 0,
    remove: async (path) => void files.delete(path),
  }
}

function workerFile(handle: FileSystemSyncAccessHandle): CacheFile {
  const read = (offset: number, length: number): Uint8Array => {
    const bytes = new Uint8Array(Math.max(0, Math.min(length, handle.getSize() - offset)))
    handle.read(bytes, { at: offset })
    return bytes
  }
  const write = async (offset: number, bytes: Uint8Array): Promise<void> => {
    await guarded(async () => {
      if (handle.write(bytes, { at: offset }) < bytes.length) {
        throw new ChoraleError('capacity', 'the browser gives no more room for weights')
      }
    })
  }
  return {
    size: async () => handle.getSize(),
    read: async (offset, length) => read(offset, length),
    write,
    append: (bytes) => write(handle.getSize(), bytes),
    sha256: async () => await sha256Of(read(0, handle.getSize())),
    close: async () => {
      handle.flush()
      handle.close()
    },
  }
}

function pageFile(handle: FileSystemFileHandle): CacheFile {
  const none = async (): Promise<never> => {
    throw new ChoraleError('internal', 'the page only reads the cache')
  }
  return {
    size: async () => (await handle.getFile()).size,
    read: async (offset, length) => {
      const part = (await handle.getFile()).slice(offset, offset + length)
      return new Uint8Array(await part.arrayBuffer())
    },
    write: none,
    append: none,
    sha256: async () => await sha256Of(new Uint8Array(await (await handle.getFile()).arrayBuffer())),
    close: async () => undefined,
  }
}

async function sha256Of(bytes: Uint8Array): Promise<string> {
  const digest = await crypto.subtle.digest('SHA-256', bytes as Uint8Array<ArrayBuffer>)
  return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, '0')).join('')
}

/** A name that is one entry of a folder. */
function fileName(name: string): string {
  if (/^[\w@%.-]{1,200}$/.test(name) && !/^\.+$/.test(name)) return name
  throw new ChoraleError('internal', `"${name.slice(0, 80)}" is no name in the cache`)
}

function isMissing(error: unknown): boolean {
  return error instanceof DOMException && error.name === 'NotFoundError'
}

async function orUndefined<T>(read: () => Promise<T>): Promise<T | undefined> {
  try {
    return await read()
  } catch (error) {
    if (isMissing(error)) return undefined
    throw error
  }
}

/** Says what the browser refused. */
async function guarded<T>(use: () => Promise<T>): Promise<T> {
  try {
    return await use()
  } catch (error) {
    if (error instanceof ChoraleError) throw error
    const full = error instanceof DOMException && error.name === 'QuotaExceededError'
    throw new ChoraleError(full ? 'capacity' : 'bad_file', `the browser's cache: ${errorMessage(error)}`, {
      cause: error,
    })
  }
}
