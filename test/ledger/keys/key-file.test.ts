import { describe, expect, it } from 'vitest'
import {
  assertNotColdkey,
  decryptKey,
  encryptKey,
  type KeyFile,
  parseKeyFile,
  SCRYPT,
} from '../../../src/ledger/keys/key-file.ts'

/** The least cost that is taken: tests should not pay for security. */
const CHEAP = { n: 1024, r: 8, p: 1 }
const OPEN = {
  role: 'hotkey',
  kind: 'ethereum',
  address: '0xf24ff3a9cf04c71dbc94d0b566f7a27b94566cac',
  created: '2026-01-02T03:04:05.678Z',
} as const
const SECRET = new Uint8Array(32).fill(7)

describe('key files', () => {
  it('hold the secret for the password, and nothing readable of it', async () => {
    const file = await encryptKey(OPEN, SECRET, 'correct horse', CHEAP)
    const text = JSON.stringify(file)
    // Four bytes of the secret: two alone stand in random ciphertext now and then.
    expect(text).not.toContain('07'.repeat(4))
    expect(await decryptKey(parseKeyFile(text), 'correct horse')).toEqual(SECRET)
    await expect(decryptKey(file, 'wrong horse')).rejects.toMatchObject({ code: 'refused' })
    await expect(decryptKey(file, '')).rejects.toMatchObject({ code: 'bad_request' })
  })

  it('the same password in another Unicode form opens it', async () => {
    const file = await encryptKey(OPEN, SECRET, 'p\u00e4ss', CHEAP)
    expect(await decryptKey(file, 'pa\u0308ss')).toEqual(SECRET)
  })

  it('two files of one key differ in salt, nonce and ciphertext', async () => {
    const [a, b] = [await encryptKey(OPEN, SECRET, 'x', CHEAP), await encryptKey(OPEN, SECRET, 'x', CHEAP)]
    expect(a.crypto.salt).not.toBe(b.crypto.salt)
    expect(a.crypto.nonce).not.toBe(b.crypto.nonce)
    expect(a.crypto.ciphertext).not.toBe(b.crypto.ciphertext)
  })

  it.each(['role', 'kind', 'address', 'created'] as const)(
    'a changed %s makes the password wrong',
    async (field) => {
      const file = await encryptKey(OPEN, SECRET, 'x', CHEAP)
      const other = {
        role: 'coldkey',
        kind: 'sr25519',
        address: '0x00',
        created: '2027-01-02T03:04:05.678Z',
      }[field]
      await expect(decryptKey({ ...file, [field]: other }, 'x')).rejects.toMatchObject({
        code: 'refused',
      })
    },
  )

  it('our own cost is strong and within the limits', async () => {
    expect(128 * SCRYPT.n * SCRYPT.r).toBeGreaterThanOrEqual(128 * 1024 * 1024)
    const file = await encryptKey(OPEN, SECRET, 'x', CHEAP)
    const crypto = { ...file.crypto, ...SCRYPT }
    expect(parseKeyFile(JSON.stringify({ ...file, crypto })).crypto.n).toBe(SCRYPT.n)
  })

  it.each([
    { n: 2 ** 21 },
    { n: 2 ** 20, r: 8 },
    { n: 1000 },
    { n: 512 },
    { r: 65_536 },
    { p: 10_000 },
    { n: 0 },
    { n: 2.5 },
    { n: '131072' },
    { r: -1 },
  ])('cost %j of a foreign file is refused', async (cost) => {
    const file = await encryptKey(OPEN, SECRET, 'x', CHEAP)
    const text = JSON.stringify({ ...file, crypto: { ...file.crypto, ...cost } })
    expect(() => parseKeyFile(text)).toThrow(/scrypt|whole number/)
  })

  it.each([
    ['', /no JSON/],
    ['null', /no object/],
    ['{"version":2}', /version 2/],
    ['{"version":1}', /crypto is no object/],
    ['x'.repeat(20_000), /at most/],
  ])('%j is no key file', (text, why) => expect(() => parseKeyFile(text)).toThrow(why))

  it('each field that is wrong is named', async () => {
    const file = await encryptKey(OPEN, SECRET, 'x', CHEAP)
    for (const [field, value] of [
      ['role', 'owner'],
      ['kind', 'rsa'],
      ['address', '../../etc'],
      ['created', 'today'],
    ] as const) {
      expect(() => parseKeyFile(JSON.stringify({ ...file, [field]: value })), field).toThrow(
        new RegExp(field),
      )
    }
    for (const [field, value] of [
      ['salt', 'zz'],
      ['nonce', '00'],
      ['ciphertext', ''],
      ['kdf', 'md5'],
      ['cipher', 'none'],
      ['ciphertext', '00'.repeat(500)],
    ] as const) {
      const crypto = { ...file.crypto, [field]: value }
      expect(() => parseKeyFile(JSON.stringify({ ...file, crypto })), field).toThrow(new RegExp(field))
    }
  })

  it('a changed byte anywhere is refused, by the parser or the password', async () => {
    const file = await encryptKey(OPEN, SECRET, 'x', CHEAP)
    const text = JSON.stringify(file)
    let parsed = 0
    for (let i = 0; i < text.length; i++) {
      const changed = `${text.slice(0, i)}${text[i] === '7' ? '8' : '7'}${text.slice(i + 1)}`
      let one: KeyFile
      try {
        one = parseKeyFile(changed)
      } catch (error) {
        expect((error as Error).name).toBe('ChoraleError')
        continue
      }
      if (++parsed % 40 === 0)
        await expect(decryptKey(one, 'x')).rejects.toMatchObject({ name: 'ChoraleError' })
    }
    expect(parsed).toBeGreaterThan(100)
  })
})

describe('assertNotColdkey', () => {
  it('lets hotkeys pass and refuses coldkeys with the way out', () => {
    expect(() => assertNotColdkey({ role: 'hotkey', address: '0x1' }, 'chorale serve')).not.toThrow()
    expect(() => assertNotColdkey({ role: 'coldkey', address: '0x1' }, 'chorale serve')).toThrow(
      /chorale serve.*coldkey.*hotkey/,
    )
  })
})
