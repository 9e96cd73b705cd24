import { chmod, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { proofFiles, readHotkey, reportFiles } from '../../node/cli/serve/duties.ts'
import { encryptKey } from '../../src/ledger/keys/key-file.ts'
import { keyFromSecret } from '../../src/ledger/substrate/key-derivation.ts'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'chorale-duties-'))
})
afterAll(async () => {
  await rm(folder, { recursive: true, force: true })
})
afterEach(() => {
  vi.unstubAllEnvs()
})

describe('readHotkey', () => {
  const secret = new Uint8Array(32).fill(3)
  const hex = '03'.repeat(32)

  it('takes 64 hex digits that only the owner can read, of the kind the ledger wants', async () => {
    const path = join(folder, 'raw.key')
    await writeFile(path, `${hex}\n`, { mode: 0o600 })
    expect(await readHotkey(path, 'ethereum')).toMatchObject({
      kind: 'ethereum',
      address: keyFromSecret(secret, 'ethereum').address,
    })
    expect((await readHotkey(path, 'substrate')).kind).toBe('sr25519')
    await chmod(path, 0o644)
    await expect(readHotkey(path, 'ethereum')).rejects.toThrow(/chmod 600/)
  })

  it('takes a hotkey of chorale key with its password, never a coldkey', async () => {
    vi.stubEnv('CHORALE_KEY_PASSWORD', 'correct horse')
    const key = keyFromSecret(secret, 'ethereum')
    const quick = { n: 2 ** 14, r: 8, p: 1 }
    for (const role of ['hotkey', 'coldkey'] as const) {
      const about = {
        role,
        kind: 'ethereum',
        address: key.address,
        created: '2026-01-02T03:04:05.678Z',
      } as const
      const file = await encryptKey(about, secret, 'correct horse', quick)
      await writeFile(join(folder, `${role}.key.json`), JSON.stringify(file), { mode: 0o600 })
    }
    expect((await readHotkey(join(folder, 'hotkey.key.json'), 'ethereum')).address).toBe(key.address)
    await expect(readHotkey(join(folder, 'coldkey.key.json'), 'ethereum')).rejects.toMatchObject({
      code: 'refused',
    })
    vi.stubEnv('CHORALE_KEY_PASSWORD', 'wrong')
    await expect(readHotkey(join(folder, 'hotkey.key.json'), 'ethereum')).rejects.toThrow()
    await expect(readHotkey(join(folder, 'none'), 'ethereum')).rejects.toMatchObject({ code: 'not_found' })
  })
})

describe('reportFiles', () => {
  it('gives an epoch’s report back after a restart, and keeps the last eight', async () => {
    const place = join(folder, 'reports')
    expect(await reportFiles(place).load(1)).toBeUndefined()
    for (let epoch = 1; epoch <= 11; epoch++) await reportFiles(place).save(epoch, Uint8Array.of(epoch))
    const files = reportFiles(place)
    expect(await files.load(11)).toEqual(Uint8Array.of(11))
    expect(await files.load(4)).toEqual(Uint8Array.of(4))
    expect(await files.load(3)).toBeUndefined()
    expect(await readdir(place)).toHaveLength(8)
  })
})

describe('proofFiles', () => {
  it('keeps proofs by content address, and makes no path of anything else', async () => {
    const place = join(folder, 'proofs')
    const files = proofFiles(place)
    const hash = 'ab'.repeat(32)
    await files.save(hash, Uint8Array.of(1, 2))
    expect(await proofFiles(place).load(hash)).toEqual(Uint8Array.of(1, 2))
    expect(await files.load('cd'.repeat(32))).toBeUndefined()
    await writeFile(join(place, '..', 'x.proof'), 'secret')
    expect(await files.load('../x')).toBeUndefined()
  })
})
