import { Keyring } from '@polkadot/api'
import { signatureVerify } from '@polkadot/util-crypto'
import { describe, expect, it } from 'vitest'
import { devAccount } from '../../../src/ledger/substrate/dev-accounts.ts'
import {
  keyFromMnemonic,
  keyFromPolkadotJson,
  keyFromSecret,
  keyFromSeed,
  newMnemonic,
  signerOf,
} from '../../../src/ledger/substrate/key-derivation.ts'

const WORDS = 'bottom drive obey lake curtain smoke basket hold race lonely fit walk'
const KINDS = ['ethereum', 'sr25519', 'ed25519', 'ecdsa'] as const

describe('keys', () => {
  it.each([
    ['alith', '0xf24ff3a9cf04c71dbc94d0b566f7a27b94566cac'],
    ['Baltathar', '0x3cd0a705a2dc65e5b1e1205896baa2be8a07c6e0'],
    ['#7', '0x931f3600a299fd9b24cefb3bff79388d19804bea'],
    ['alice', '5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY'],
    ['bob', '5FHneW46xGXgs5mUiveU4sbTyGBzmstUspZC92UhjJM694ty'],
  ])('devAccount(%s) is the well-known %s', (name, address) => expect(devAccount(name).address).toBe(address))

  it('devAccount of an unknown name names those there are', () => {
    expect(() => devAccount('mallory')).toThrow(/alith.*alice/)
  })

  it.each(['sr25519', 'ed25519', 'ecdsa'] as const)(
    "%s: keys and addresses are the library's keyring's, paths too",
    (kind) => {
      const ring = new Keyring({ type: kind })
      expect(keyFromMnemonic(WORDS, kind).address).toBe(ring.addFromUri(WORDS).address)
      expect(keyFromMnemonic(WORDS, kind, '//polkadot//0').address).toBe(
        ring.addFromUri(`${WORDS}//polkadot//0`).address,
      )
      expect(keyFromSeed(new Uint8Array(32).fill(3), kind).address).toBe(
        ring.addFromSeed(new Uint8Array(32).fill(3)).address,
      )
    },
  )

  it.each(KINDS)('%s: what is signed verifies for the address', async (kind) => {
    const key = keyFromMnemonic(newMnemonic(), kind)
    const message = new TextEncoder().encode('a message')
    const signature = await signerOf(key).sign(message)
    expect(signature.length).toBe(kind === 'ethereum' || kind === 'ecdsa' ? 65 : 64)
    expect(signatureVerify(message, signature, key.address).isValid).toBe(true)
    expect(keyFromSecret(key.secret, kind)).toEqual(key)
  })

  it('newMnemonic: 12 or 24 words, others each time', () => {
    expect(newMnemonic().split(' ')).toHaveLength(12)
    expect(newMnemonic(24).split(' ')).toHaveLength(24)
    expect(newMnemonic()).not.toBe(newMnemonic())
  })

  it('words are read as people type them', () => {
    expect(keyFromMnemonic(`  ${WORDS.toUpperCase().replaceAll(' ', '\n ')} `, 'ethereum')).toEqual(
      keyFromMnemonic(WORDS, 'ethereum'),
    )
  })

  it.each([
    ['bottom drive', undefined],
    [WORDS.replace('walk', 'drive'), undefined],
    [WORDS, 'no/path'],
    [WORDS, "m/44'/x"],
  ])('%j at %j is refused', (words, path) => {
    expect(() => keyFromMnemonic(words, 'ethereum', path)).toThrow(
      expect.objectContaining({ code: 'bad_request' }) as Error,
    )
  })

  it('secrets of a wrong size, and halves that do not fit, are refused', () => {
    for (const kind of KINDS)
      expect(() => keyFromSecret(new Uint8Array(5), kind)).toThrow(/has \d+ bytes, this one 5/)
    const secret = keyFromMnemonic(WORDS, 'sr25519').secret.slice()
    secret[95] = (secret[95] ?? 0) ^ 1
    expect(() => keyFromSecret(secret, 'sr25519')).toThrow(/no secret of kind sr25519/)
    expect(() => keyFromSecret(new Uint8Array(32), 'ethereum')).toThrow(/no secret of kind ethereum/)
  })

  it.each(KINDS)('%s: a key exported by the library is read with its password alone', (kind) => {
    const pair = new Keyring({ type: kind }).addFromUri(
      kind === 'ethereum' ? `${WORDS}/m/44'/60'/0'/0/0` : WORDS,
    )
    const json = JSON.stringify(pair.toJson('secret'))
    expect(keyFromPolkadotJson(json, 'secret')).toEqual(keyFromMnemonic(WORDS, kind))
    expect(() => keyFromPolkadotJson(json, 'wrong')).toThrow(/wrong password/)
  })

  it.each(['', '{}', '{"encoded":"x","encoding":{"content":["pkcs8","rsa"],"type":["none"]}}', '[]'])(
    '%j is no exported key',
    (json) =>
      expect(() => keyFromPolkadotJson(json, 'x')).toThrow(
        expect.objectContaining({ code: 'bad_file' }) as Error,
      ),
  )
})
