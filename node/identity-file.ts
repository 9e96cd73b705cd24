import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { ChoraleError } from '../src/errors.ts'
import { createIdentity, type Identity } from '../src/swarm/identity.ts'

const SEED_BYTES = 32

/**
 * The peer identity whose secret seed lies in `path` as hex; made and written (mode 0600) when there is no file, so
 * that a bootstrap peer keeps its address over restarts. @throws `bad_file` when the file holds something else.
 */
export async function readIdentityFile(path: string): Promise<Identity> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    const seed = crypto.getRandomValues(new Uint8Array(SEED_BYTES))
    await mkdir(dirname(path), { recursive: true, mode: 0o700 })
    // `wx`: two processes that start together must not overwrite each other's key.
    await writeFile(path, `${Buffer.from(seed).toString('hex')}\n`, { mode: 0o600, flag: 'wx' })
    return await createIdentity(seed)
  }
  if (!/^[0-9a-f]{64}\s*$/.test(text)) {
    throw new ChoraleError('bad_file', `${path} is no identity file: it must hold 64 hex digits`)
  }
  return await createIdentity(Uint8Array.from(Buffer.from(text.trim(), 'hex')))
}
