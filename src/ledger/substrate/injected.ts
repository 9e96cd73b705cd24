import { ChoraleError, errorMessage } from '../../errors.ts'
import type { LedgerInfo, LedgerSigner, SignerPayload } from '../ledger.ts'
import { fromHex } from '../hex.ts'
import { isRecord } from './json-rpc.ts'

/**
 * Wallets that a browser extension injects: `window.injectedWeb3`, the protocol of polkadot-js/extension. A page reads the
 * list, lets the user choose one wallet, and signs with the accounts it gives.
 */
export interface InjectedWallet {
  readonly name: string
  readonly version: string
  /** Asks the user to let `application` see accounts. @throws `refused` when the answer is no, `protocol` for a broken wallet. */
  connect(application: string): Promise<readonly InjectedAccount[]>
}

/** An account of a wallet. */
export interface InjectedAccount {
  readonly address: string
  /** What the user calls it. */
  readonly label: string
  readonly kind: LedgerSigner['kind']
  readonly signer: LedgerSigner
}

/** Wallets and accounts shown: a page must not hang in a list made to be long. */
const MAX_WALLETS = 32
const MAX_ACCOUNTS = 256
const MAX_TEXT = 100
const ETHEREUM_SIGNATURE = 65
/** Place in `MultiSignature` of kinds with 64-byte signatures, for wallets that leave it out. */
const KIND_BYTE = { ed25519: 0, sr25519: 1, ecdsa: 2, ethereum: 2 } as const

/** The wallets of `window.injectedWeb3`; what is no wallet is left out. */
export function injectedWallets(injectedWeb3: unknown): readonly InjectedWallet[] {
  if (!isRecord(injectedWeb3)) return []
  return Object.entries(injectedWeb3)
    .slice(0, MAX_WALLETS)
    .flatMap(([name, provider]) => {
      const { enable, version } = isRecord(provider) ? provider : {}
      if (typeof enable !== 'function') return []
      const wallet: InjectedWallet = {
        name: name.slice(0, MAX_TEXT),
        version: typeof version === 'string' ? version.slice(0, MAX_TEXT) : '',
        connect: (application) => connect(name, () => enable.call(provider, application) as unknown),
      }
      return [wallet]
    })
}

/** Whether an account can sign on a chain: Ethereum-style accounts there, others elsewhere. */
export function fitsChain(account: InjectedAccount, info: Pick<LedgerInfo, 'accounts'>): boolean {
  return (account.kind === 'ethereum') === (info.accounts === 'ethereum')
}

async function connect(name: string, enable: () => unknown): Promise<readonly InjectedAccount[]> {
  let injected: unknown
  try {
    injected = await enable()
  } catch (error) {
    throw new ChoraleError('refused', `${name} gave no access: ${errorMessage(error)}`, { cause: error })
  }
  const { accounts, signer } = isRecord(injected) ? injected : {}
  const { get } = isRecord(accounts) ? accounts : {}
  const { signPayload } = isRecord(signer) ? signer : {}
  if (typeof get !== 'function' || typeof signPayload !== 'function') {
    throw new ChoraleError('protocol', `${name} offers no accounts or no signPayload: is it up to date?`)
  }
  const list: unknown = await (get.call(accounts, true) as unknown)
  if (!Array.isArray(list)) throw new ChoraleError('protocol', `${name} sent no list of accounts`)
  return list.slice(0, MAX_ACCOUNTS).flatMap((account: unknown) => {
    const { address, name: label, type } = isRecord(account) ? account : {}
    const kind = kindOf(address, type)
    if (typeof address !== 'string' || kind === undefined) return []
    const own = kind === 'ethereum' ? address.toLowerCase() : address
    const sign = (payload: SignerPayload): unknown =>
      signPayload.call(signer, { ...payload, address }) as unknown
    const found: InjectedAccount = {
      address: own,
      label: typeof label === 'string' ? label.slice(0, MAX_TEXT) : '',
      kind,
      signer: walletSigner(name, own, kind, sign),
    }
    return [found]
  })
}

function walletSigner(
  wallet: string,
  address: string,
  kind: LedgerSigner['kind'],
  ask: (payload: SignerPayload) => unknown,
): LedgerSigner {
  return {
    address,
    kind,
    // A wallet shows what it signs: it never signs bytes that may be anything.
    sign: () =>
      Promise.reject(new ChoraleError('not_supported', `${wallet} signs transactions only, not plain bytes`)),
    signPayload: async (payload) => {
      let answer: unknown
      try {
        answer = await ask(payload)
      } catch (error) {
        throw new ChoraleError('cancelled', `${wallet} did not sign: ${errorMessage(error)}`, {
          cause: error,
        })
      }
      const { signature } = isRecord(answer) ? answer : {}
      return asStored(fromHex(signature, `signature of ${wallet}`), kind, wallet)
    },
  }
}

/** A signature as the chain stores it: Ethereum's bare, others with the byte that names their kind. */
function asStored(signature: Uint8Array, kind: LedgerSigner['kind'], wallet: string): Uint8Array {
  const bare = kind === 'ethereum' || kind === 'ecdsa' ? ETHEREUM_SIGNATURE : 64
  const named = signature.length === bare + 1 && signature[0] === KIND_BYTE[kind]
  if (kind === 'ethereum') {
    if (signature.length === bare) return signature
    if (named) return signature.slice(1)
  } else {
    if (named) return signature
    if (signature.length === bare) return Uint8Array.from([KIND_BYTE[kind], ...signature])
  }
  throw new ChoraleError(
    'protocol',
    `${wallet} sent a signature of ${signature.length} bytes for a key of kind ${kind}`,
  )
}

/** Old wallets name no type: the address tells Ethereum's, sr25519 is the usual one of the others. */
function kindOf(address: unknown, type: unknown): LedgerSigner['kind'] | undefined {
  if (typeof address !== 'string' || address.length > MAX_TEXT) return undefined
  if (/^0x[0-9a-fA-F]{40}$/.test(address)) return 'ethereum'
  const known = (['sr25519', 'ed25519', 'ecdsa'] as const).find((kind) => kind === type)
  return known ?? (type === undefined ? 'sr25519' : undefined)
}
