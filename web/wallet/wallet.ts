import { batch, signal } from '@preact/signals'
import { ChoraleError, errorCode, errorMessage } from '../../src/errors.ts'
import type { Ledger, LedgerInfo, LedgerSigner } from '../../src/ledger/ledger.ts'
import { fitsChain, type InjectedAccount, type InjectedWallet } from '../../src/ledger/substrate/injected.ts'
import { note, tabLog } from '../session/tab-log.ts'
import { walletStrings } from '../strings-wallet.ts'
import type { Overview } from './overview.ts'

/** The connection to a node of the ledger; made when the user asks for it. */
export type Link =
  | { readonly kind: 'none' }
  | { readonly kind: 'connecting' }
  | { readonly kind: 'connected'; readonly url: string; readonly info: LedgerInfo }
  | { readonly kind: 'failed'; readonly problem: string }

/** An account looked at; without a signer it can only be looked at. */
export interface Chosen {
  readonly address: string
  readonly label: string
  readonly wallet: string | undefined
  readonly signer: LedgerSigner | undefined
}

/** The accounts a wallet gave, once it was asked. */
export interface OpenWallet {
  readonly name: string
  readonly accounts: readonly InjectedAccount[]
}

export const link = signal<Link>({ kind: 'none' })
export const openWallet = signal<OpenWallet | undefined>(undefined)
export const walletProblem = signal('')
export const chosen = signal<Chosen | undefined>(undefined)
export const overview = signal<Overview | undefined>(undefined)
export const overviewProblem = signal('')

/** What was chosen last: shown again, asked again. A permission is never kept. */
export interface Remembered {
  readonly url: string
  readonly wallet: string
  readonly account: string
}

const STORE_KEY = 'chorale-wallet'
const APPLICATION = 'Chorale'

let ledger: Ledger | undefined
let stopWatching: () => void = () => undefined
let attempt = 0

/** The connected ledger. @throws `unreachable` while there is none. */
export function connectedLedger(): Ledger {
  if (ledger === undefined) throw new ChoraleError('unreachable', walletStrings.notConnected)
  return ledger
}

/** Connects to a node of a ledger. Failures end in `link`. */
export async function connect(url: string, genesisHash: string | undefined): Promise<void> {
  const mine = ++attempt
  await disconnect()
  link.value = { kind: 'connecting' }
  try {
    // The chain's libraries are larger than all pages together: they come when somebody wants a ledger.
    const { connectLedger } = await import('../../src/ledger/substrate.ts')
    const opened = await connectLedger(url.trim(), {
      log: tabLog,
      ...(genesisHash !== undefined && { genesisHash }),
    })
    if (mine !== attempt) return await opened.close()
    ledger = opened
    link.value = { kind: 'connected', url: url.trim(), info: opened.info }
    remember({ url: url.trim() })
    stopWatching = opened.watch(() => void refreshOverview())
    dropUnfit(opened.info)
    await refreshOverview()
  } catch (error) {
    if (mine !== attempt) return
    note(`ledger: ${errorMessage(error)}`)
    link.value = { kind: 'failed', problem: errorMessage(error) }
  }
}

/** Ends the connection; calls under way may still be included. */
export async function disconnect(): Promise<void> {
  stopWatching()
  stopWatching = () => undefined
  const ending = ledger
  ledger = undefined
  batch(() => {
    link.value = { kind: 'none' }
    overview.value = undefined
    overviewProblem.value = ''
  })
  await ending?.close()
}

/** Asks one wallet for its accounts: it may ask the user. Failures end in `walletProblem`. */
export async function chooseWallet(wallet: InjectedWallet): Promise<void> {
  walletProblem.value = ''
  try {
    const accounts = await wallet.connect(APPLICATION)
    openWallet.value = { name: wallet.name, accounts }
    remember({ wallet: wallet.name })
    const known = recall().account
    const last = accounts.find(({ address }) => address === known)
    const [only] = accounts
    const pick = last ?? (accounts.length === 1 ? only : undefined)
    if (pick !== undefined && fitsLink(pick)) await chooseAccount(pick)
  } catch (error) {
    walletProblem.value = errorMessage(error)
  }
}

/** Whether an account can sign on the connected chain; yes while there is none. */
export function fitsLink(account: InjectedAccount): boolean {
  return link.value.kind !== 'connected' || fitsChain(account, link.value.info)
}

export async function chooseAccount(account: InjectedAccount): Promise<void> {
  const { address, label, signer } = account
  await look({ address, label, wallet: openWallet.value?.name, signer })
  remember({ account: address })
}

/** Looks at an account without being able to sign for it. */
export async function watchAccount(address: string): Promise<void> {
  await look({ address: address.trim(), label: '', wallet: undefined, signer: undefined })
}

async function look(account: Chosen): Promise<void> {
  batch(() => {
    chosen.value = account
    overview.value = undefined
    overviewProblem.value = ''
  })
  await refreshOverview()
}

function dropUnfit(info: LedgerInfo): void {
  const signer = chosen.value?.signer
  if (signer !== undefined && (signer.kind === 'ethereum') !== (info.accounts === 'ethereum')) {
    chosen.value = undefined
  }
}

let reading: Promise<void> | undefined
let readAgain = false

/** Reads the chosen account anew; calls that come while one runs end in one more. */
export async function refreshOverview(): Promise<void> {
  if (reading !== undefined) {
    readAgain = true
    return await reading
  }
  reading = readWhileWanted()
  try {
    await reading
  } finally {
    reading = undefined
  }
}

async function readWhileWanted(): Promise<void> {
  do {
    readAgain = false
    const from = ledger
    const address = chosen.value?.address
    if (from === undefined || address === undefined) return
    try {
      const { readOverview } = await import('./overview.ts')
      const found = await readOverview(from, address)
      if (from !== ledger || address !== chosen.value?.address) continue
      overview.value = found
      overviewProblem.value = ''
    } catch (error) {
      if (from === ledger && address === chosen.value?.address) {
        overviewProblem.value =
          errorCode(error) === 'bad_request'
            ? walletStrings.badAccount(address)
            : walletStrings.unread(errorMessage(error))
      }
    }
  } while (readAgain)
}

/** What was chosen last time. */
export function recall(): Remembered {
  const empty = { url: '', wallet: '', account: '' }
  try {
    const stored = JSON.parse(localStorage.getItem(STORE_KEY) ?? '{}') as Record<string, unknown>
    const text = (name: string) => (typeof stored[name] === 'string' ? stored[name].slice(0, 200) : '')
    return { url: text('url'), wallet: text('wallet'), account: text('account') }
  } catch {
    return empty
  }
}

function remember(change: Partial<Remembered>): void {
  try {
    localStorage.setItem(STORE_KEY, JSON.stringify({ ...recall(), ...change }))
  } catch {
    // A browser that keeps nothing asks again.
  }
}
