import { TypeRegistry } from '@polkadot/types'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { transfer } from '../../../src/ledger/calls.ts'
import type { Ledger, SignerPayload } from '../../../src/ledger/ledger.ts'
import { connectLedger } from '../../../src/ledger/substrate.ts'
import { devAccount } from '../../../src/ledger/substrate/dev-accounts.ts'
import { toHex } from '../../../src/ledger/hex.ts'
import { fitsChain, injectedWallets } from '../../../src/ledger/substrate/injected.ts'
import { signerOf } from '../../../src/ledger/substrate/key-derivation.ts'
import { signerOfNumber } from '../../contract/ledger-contract.ts'
import { devNode, Wire } from './wired-node.ts'

const UNIT = 10n ** 18n
const alith = signerOf(devAccount('alith'))

/** What an extension does: builds the payload's bytes from the fields, and signs them. */
async function extensionSign(payload: SignerPayload): Promise<{ id: number; signature: string }> {
  const registry = new TypeRegistry()
  registry.setSignedExtensions([...payload.signedExtensions])
  const bytes = registry
    .createType('ExtrinsicPayload', payload, { version: payload.version })
    .toU8a({ method: true })
  return { id: 1, signature: toHex(await alith.sign(bytes)) }
}

function extension(
  signPayload: unknown,
  accounts: unknown = [{ address: devAccount('alith').address, name: 'Me', type: 'ethereum' }],
) {
  return {
    fake: {
      version: '1.2.3',
      enable: async (application: string) => {
        if (application === 'nosy') throw new Error('the user said no')
        return { accounts: { get: async () => accounts }, signer: { signPayload } }
      },
    },
  }
}

describe('injectedWallets', () => {
  let ledger: Ledger
  const node = devNode()

  beforeAll(async () => {
    ledger = await connectLedger('ws://wired', { openSocket: new Wire(node).openSocket })
  })
  afterAll(async () => {
    await ledger.close()
    node.close()
  })

  it('lists wallets and leaves out what is none', () => {
    expect(injectedWallets(undefined)).toEqual([])
    expect(injectedWallets({ a: null, b: { enable: 7 }, c: 'x' })).toEqual([])
    expect(injectedWallets(extension(extensionSign))).toMatchObject([{ name: 'fake', version: '1.2.3' }])
  })

  it("a transaction signed by an extension from the payload's fields is taken by the chain", async () => {
    const [wallet] = injectedWallets(extension(extensionSign))
    const [account] = await wallet!.connect('Chorale')
    expect(account).toMatchObject({ label: 'Me', kind: 'ethereum', address: alith.address })
    expect(fitsChain(account!, ledger.info)).toBe(true)
    const to = signerOfNumber(5).address
    await ledger.submit(transfer(to, UNIT), account!.signer)
    expect(await ledger.balance(to)).toBe(UNIT)
  })

  it('a user that refuses is refused or cancelled; the number of the call stays free', async () => {
    const [wallet] = injectedWallets(
      extension(async () => {
        throw new Error('Cancelled')
      }),
    )
    await expect(wallet!.connect('nosy')).rejects.toMatchObject({ code: 'refused' })
    const [account] = await wallet!.connect('Chorale')
    await expect(ledger.submit(transfer(alith.address, UNIT), account!.signer)).rejects.toMatchObject({
      code: 'cancelled',
    })
    await ledger.submit(transfer(signerOfNumber(6).address, UNIT), alith)
  })

  it.each([undefined, { signature: 7 }, { signature: '0x00' }, { signature: `0x${'00'.repeat(500)}` }, {}])(
    'an answer %j is no signature',
    async (answer) => {
      const [wallet] = injectedWallets(extension(async () => answer))
      const [account] = await wallet!.connect('Chorale')
      await expect(account!.signer.signPayload!({} as SignerPayload)).rejects.toMatchObject({
        name: 'ChoraleError',
      })
      await expect(account!.signer.sign(new Uint8Array(1))).rejects.toMatchObject({ code: 'not_supported' })
    },
  )

  it('broken accounts are left out, broken wallets are protocol errors', async () => {
    const odd = [null, 7, { address: 5 }, { address: 'x'.repeat(200) }, { address: '5Gx', type: 'quantum' }]
    const [wallet] = injectedWallets(extension(extensionSign, odd))
    expect(await wallet!.connect('Chorale')).toEqual([])
    const [other] = injectedWallets(extension(undefined))
    await expect(other!.connect('Chorale')).rejects.toMatchObject({ code: 'protocol' })
    const [third] = injectedWallets(extension(extensionSign, 'many'))
    await expect(third!.connect('Chorale')).rejects.toMatchObject({ code: 'protocol' })
  })

  it('kinds: signatures get the byte that names them', async () => {
    const address = devAccount('alice').address
    for (const [type, bare, first] of [
      ['sr25519', 64, 1],
      ['ed25519', 64, 0],
      ['ecdsa', 65, 2],
    ] as const) {
      const sign = async (): Promise<unknown> => ({ signature: `0x${'07'.repeat(bare)}` })
      const [wallet] = injectedWallets(extension(sign, [{ address, type }]))
      const [account] = await wallet!.connect('Chorale')
      const signature = await account!.signer.signPayload!({} as SignerPayload)
      expect([signature.length, signature[0]], type).toEqual([bare + 1, first])
      expect(fitsChain(account!, ledger.info)).toBe(false)
    }
  })
})
