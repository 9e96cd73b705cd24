import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { contentHash } from '../../../src/attest/evidence.ts'
import { MAX_POLICY_BYTES, readPolicyModule } from '../../../src/attest/policy/module.ts'
import type { PolicyStore } from '../../../src/attest/policy/policy-shelf.ts'
import { ChoraleError, errorMessage } from '../../../src/errors.ts'
import { forgetOldest, readIfThere, writeWhole } from './kept-files.ts'

/** The one that counts, the next one, and some that did: 64 KiB each. */
const KEPT_POLICIES = 16

/** Policy programs by the SHA-256 of their wasm. */
export function policyFiles(folder: string): PolicyStore {
  const path = (sha256: string) => join(folder, `${sha256}.wasm`)
  return {
    // Others ask for it: only what can be a content address becomes a path.
    load: async (sha256) => (/^[0-9a-f]{64}$/.test(sha256) ? await readIfThere(path(sha256)) : undefined),
    save: async (sha256, wasm) => {
      await writeWhole(folder, path(sha256), wasm)
      await forgetOldest(folder, KEPT_POLICIES, 'time')
    },
  }
}

/**
 * Reads `--policy FILE`. @returns its wasm and the hash that the ledger must name for it to count.
 * @throws `bad_file` when it can't be read, is too long, or is no policy program.
 */
export async function readPolicyFile(
  file: string,
): Promise<{ readonly sha256: string; readonly wasm: Uint8Array }> {
  try {
    const { size } = await stat(file)
    if (size > MAX_POLICY_BYTES) {
      throw new ChoraleError('bad_file', `${size} bytes (at most ${MAX_POLICY_BYTES})`)
    }
    const wasm = new Uint8Array(await readFile(file))
    readPolicyModule(wasm)
    return { sha256: contentHash(wasm), wasm }
  } catch (error) {
    throw new ChoraleError('bad_file', `--policy ${file}: ${errorMessage(error)}`, {
      cause: error,
      field: 'policy',
    })
  }
}
