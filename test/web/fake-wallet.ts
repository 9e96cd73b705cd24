/** A wallet extension for tests: it injects itself into a page and signs with development accounts. */

import { TypeRegistry } from '@polkadot/types'
import type { Page } from 'playwright-core'
import type { SignerPayload } from '../../src/ledger/ledger.ts'
import { devAccount } from '../../src/ledger/substrate/dev-accounts.ts'
import { toHex } from '../../src/ledger/hex.ts'
import { signerOf } from '../../src/ledger/substrate/key-derivation.ts'

export interface FakeAccount {
  /** Of `devAccount`. */
  readonly name: string
  /** What the wallet calls it. */
  readonly label: string
  readonly type: 'ethereum' | 'sr25519'
}

export interface FakeWallet {
  /** Wallets that were asked for accounts. */
  readonly asked: readonly string[]
  /** What was shown to the user. */
  readonly payloads: readonly SignerPayload[]
  /** The user says no from now on. */
  refuse: boolean
}

/** Puts two wallets on every page that `page` opens from now on: `fake` and one that nobody chooses. */
export async function injectWallets(page: Page, accounts: readonly FakeAccount[]): Promise<FakeWallet> {
  const asked: string[] = []
  const payloads: SignerPayload[] = []
  const wallet = { asked, payloads, refuse: false }
  const keys = accounts.map(({ name, label, type }) => ({ key: devAccount(name), label, type }))
  await page.exposeFunction('walletAsked', (name: string) => void asked.push(name))
  await page.exposeFunction('walletSigns', async (payload: SignerPayload) => {
    payloads.push(payload)
    if (wallet.refuse) throw new Error('Cancelled')
    const found = keys.find(({ key }) => key.address.toLowerCase() === payload.address.toLowerCase())
    if (found === undefined) throw new Error('no such account')
    const registry = new TypeRegistry()
    registry.setSignedExtensions([...payload.signedExtensions])
    // As an extension does: from the fields, which it shows, not from bytes.
    const bytes = registry
      .createType('ExtrinsicPayload', payload, { version: payload.version })
      .toU8a({ method: true })
    return toHex(await signerOf(found.key).sign(bytes))
  })
  const shown = keys.map(({ key, label, type }) => ({ address: key.address, name: label, type }))
  await page.addInitScript((list) => {
    const scope = globalThis as unknown as {
      injectedWeb3: object
      walletAsked: (name: string) => Promise<void>
      walletSigns: (payload: unknown) => Promise<string>
    }
    const provider = (name: string) => ({
      version: '1.2.3',
      enable: async () => {
        await scope.walletAsked(name)
        return {
          accounts: { get: async () => list },
          signer: {
            signPayload: async (payload: unknown) => ({ id: 1, signature: await scope.walletSigns(payload) }),
          },
        }
      },
    })
    scope.injectedWeb3 = { fake: provider('fake'), other: provider('other') }
  }, shown)
  return wallet
}
