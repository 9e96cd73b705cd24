import type { ClientBlob } from '../../src/model/client-part.ts'

/** A blob on its way into the cache. */
export interface CachedBlob {
  /** Bytes that are there. */
  readonly size: number
  append(bytes: Uint8Array): void
  readAll(): Uint8Array
  /** Empties it: what is there is not what was promised. */
  clear(): void
  close(): void
}

const FOLDER = 'client-parts'

/**
 * Blobs by content in the browser's private file system, in a worker: bytes land as they come, so a download that
 * was cut resumes. Undefined where there is no such file system, or another tab is writing the same blob.
 */
export async function openCachedBlob({ sha256 }: ClientBlob): Promise<CachedBlob | undefined> {
  try {
    const root = await navigator.storage.getDirectory()
    const folder = await root.getDirectoryHandle(FOLDER, { create: true })
    const file = await folder.getFileHandle(sha256, { create: true })
    const handle = await file.createSyncAccessHandle()
    return {
      get size() {
        return handle.getSize()
      },
      append(bytes) {
        handle.write(bytes, { at: handle.getSize() })
      },
      readAll() {
        const bytes = new Uint8Array(handle.getSize())
        handle.read(bytes, { at: 0 })
        return bytes
      },
      clear: () => handle.truncate(0),
      close: () => {
        handle.flush()
        handle.close()
      },
    }
  } catch {
    return undefined
  }
}

/** Bytes that blobs take in the browser's private file system. */
export async function cachedBytes(): Promise<number> {
  let sum = 0
  try {
    const root = await navigator.storage.getDirectory()
    const folder = await root.getDirectoryHandle(FOLDER)
    for await (const handle of folder.values()) {
      if (handle.kind === 'file') sum += (await handle.getFile()).size
    }
  } catch {
    return sum
  }
  return sum
}

/** Removes every blob; those that are open stay until they are closed. */
export async function clearCache(): Promise<void> {
  try {
    const root = await navigator.storage.getDirectory()
    await root.removeEntry(FOLDER, { recursive: true })
  } catch (error) {
    if (!(error instanceof DOMException && error.name === 'NotFoundError')) throw error
  }
}
