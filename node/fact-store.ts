import { createHash } from 'node:crypto'
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { FactStore } from '../src/platform.ts'

/** Facts as files of one folder, each named by its key's hash; made when the first is kept. */
export function createFactStore(folder: string): FactStore {
  const pathOf = (key: string) => join(folder, createHash('sha256').update(key).digest('hex').slice(0, 32))
  return {
    async get(key) {
      try {
        return await readFile(pathOf(key), 'utf8')
      } catch {
        return undefined
      }
    },
    async put(key, value) {
      try {
        await mkdir(folder, { recursive: true, mode: 0o700 })
        // Renamed into place: nobody reads half a fact.
        const partial = `${pathOf(key)}.${process.pid}`
        await writeFile(partial, value, { mode: 0o600 })
        await rename(partial, pathOf(key))
      } catch {
        // A read-only home: the fact is found out again.
      }
    },
  }
}
