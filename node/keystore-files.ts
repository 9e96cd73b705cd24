import { link, mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { ChoraleError, errorMessage } from '../src/errors.ts'
import { type KeyFile, parseKeyFile } from '../src/ledger/keys/key-file.ts'
import { stateFolder } from './folders.ts'

/** A key file and what it is called. */
export interface StoredKey {
  readonly name: string
  readonly path: string
  readonly file: KeyFile
}

/** Longest file looked at: ours have 600 bytes. */
const MAX_BYTES = 64 * 1024
/** Names are file names: nothing that leads elsewhere. */
const NAME = /^[a-z0-9][a-z0-9._-]{0,63}$/i
const SUFFIX = '.key.json'

/** Where keys lie: `CHORALE_KEYS`, else `keys` in the state folder. */
export function keyFolder(): string {
  const set = process.env['CHORALE_KEYS']
  return set === undefined || set === '' ? join(stateFolder(), 'keys') : set
}

/** The file of a key by name. @throws `bad_config` for a name that is no file name. */
export function keyPath(name: string): string {
  if (!NAME.test(name)) {
    throw new ChoraleError(
      'bad_config',
      `${name} is no name for a key: letters, digits, dots and dashes, at most 64`,
      { field: 'name' },
    )
  }
  return join(keyFolder(), `${name}${SUFFIX}`)
}

/** Makes sure that a name is free, before anybody writes words down. @throws `bad_config`. */
export async function assertFreeName(name: string): Promise<void> {
  const path = keyPath(name)
  const there = await stat(path).catch(() => undefined)
  if (there !== undefined) throw taken(name, path)
}

/**
 * Writes a key that only this user can read; whole or not at all, and never over another.
 * @throws `bad_config` when there is a key of this name.
 */
export async function writeKey(name: string, file: KeyFile): Promise<string> {
  const path = keyPath(name)
  await mkdir(keyFolder(), { recursive: true, mode: 0o700 })
  const temporary = `${path}.${process.pid}.new`
  try {
    await writeFile(temporary, `${JSON.stringify(file, undefined, 2)}\n`, { mode: 0o600, flag: 'wx' })
    // A link fails where a file is; a rename would replace it.
    await link(temporary, path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    throw taken(name, path)
  } finally {
    await rm(temporary, { force: true })
  }
  return path
}

/** A key by name, or by the path of its file. @throws `not_found`, `bad_file`, `limit`. */
export async function readKey(nameOrPath: string): Promise<StoredKey> {
  const path = nameOrPath.includes('/') || nameOrPath.endsWith(SUFFIX) ? nameOrPath : keyPath(nameOrPath)
  let text: string
  try {
    const { size, mode } = await stat(path)
    if (size > MAX_BYTES) {
      throw new ChoraleError('limit', `${path} has ${size} bytes: a key file has at most ${MAX_BYTES}`)
    }
    if ((mode & 0o077) !== 0 && process.platform !== 'win32') {
      throw new ChoraleError('bad_file', `${path} can be read by others: chmod 600 ${path}`)
    }
    text = await readFile(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    throw new ChoraleError(
      'not_found',
      `there is no key ${nameOrPath}: chorale key list shows all, chorale key new hotkey --name ${basename(nameOrPath)} makes one`,
      { field: 'key' },
    )
  }
  return { name: basename(path).replace(SUFFIX, ''), path, file: parseKeyFile(text) }
}

/** All keys of this user, by name; files that are no keys are told through `skipped`. */
export async function listKeys(skipped: (path: string, why: string) => void): Promise<readonly StoredKey[]> {
  let names: string[]
  try {
    names = await readdir(keyFolder())
  } catch {
    return []
  }
  const keys: StoredKey[] = []
  for (const name of names.filter((one) => one.endsWith(SUFFIX)).sort()) {
    const path = join(keyFolder(), name)
    try {
      keys.push(await readKey(path))
    } catch (error) {
      skipped(path, errorMessage(error))
    }
  }
  return keys
}

function taken(name: string, path: string): ChoraleError {
  return new ChoraleError('bad_config', `there is a key ${name} already (${path}): choose another --name`, {
    field: 'name',
  })
}
