import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

/** A file's bytes; undefined where there is none. */
export async function readIfThere(path: string): Promise<Uint8Array | undefined> {
  try {
    return new Uint8Array(await readFile(path))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

/** Whole or not at all: half a report after a crash would be a second one. */
export async function writeWhole(folder: string, path: string, bytes: Uint8Array): Promise<void> {
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const temporary = `${path}.${process.pid}.new`
  await writeFile(temporary, bytes, { mode: 0o600, flush: true })
  await rename(temporary, path)
}

/** Keeps so many files of a folder: those with the last names, or the newest. */
export async function forgetOldest(folder: string, keep: number, by: 'name' | 'time'): Promise<void> {
  const names = await readdir(folder)
  const aged = await Promise.all(
    names.map(async (name) => ({ name, age: by === 'name' ? 0 : (await stat(join(folder, name))).mtimeMs })),
  )
  aged.sort((a, b) => b.age - a.age || (a.name < b.name ? 1 : -1))
  for (const { name } of aged.slice(keep)) await rm(join(folder, name), { force: true })
}
