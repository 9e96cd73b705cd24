import type { LedgerValue } from '../../ledger.ts'
import type { BalancesContext, PalletContext } from './pallet.ts'

/** Least an account must hold to exist; smallest units. Hypertensor's. */
export const EXISTENTIAL_DEPOSIT = 500n

/** Marks accounts whose locks are kept the newer way; all of this chain's are. Substrate's `ExtraFlags`. */
const NEW_LOGIC = 1n << 127n

/** `frame_system::AccountInfo`. */
export interface AccountInfo {
  readonly [field: string]: LedgerValue
  readonly nonce: number
  readonly consumers: number
  readonly providers: number
  readonly sufficients: number
  readonly data: {
    readonly [field: string]: LedgerValue
    readonly free: bigint
    readonly reserved: bigint
    readonly frozen: bigint
    readonly flags: bigint
  }
}

/** What an account reads as that nobody has used. */
export const NO_ACCOUNT: AccountInfo = {
  nonce: 0,
  consumers: 0,
  providers: 0,
  sufficients: 0,
  data: { free: 0n, reserved: 0n, frozen: 0n, flags: NEW_LOGIC },
}

/** An account as `System.Account` has it. */
export function readAccount(context: PalletContext, account: string): AccountInfo {
  return context.get('System.Account', account) as AccountInfo
}

/**
 * Sets an account's free balance, creating or removing the account; what is left below the existential deposit is burned
 * and its events tell so.
 */
export function writeFree(
  balances: PalletContext,
  system: PalletContext,
  account: string,
  free: bigint,
): void {
  const info = readAccount(balances, account)
  if (free < EXISTENTIAL_DEPOSIT) {
    if (info.providers === 0) return
    system.remove('Account', account)
    system.emit('KilledAccount', { account })
    if (free > 0n) {
      addIssuance(balances, -free)
      balances.emit('DustLost', { account, amount: free })
    }
    return
  }
  system.set('Account', [account], { ...info, providers: 1, data: { ...info.data, free, flags: NEW_LOGIC } })
  if (info.providers === 0) {
    system.emit('NewAccount', { account })
    balances.emit('Endowed', { account, free_balance: free })
  }
}

/** Changes the total issuance; negative amounts lower it. */
export function addIssuance(balances: PalletContext, amount: bigint): void {
  balances.set('TotalIssuance', [], (balances.get('TotalIssuance') as bigint) + amount)
}

/** What other pallets may do with money. Every amount is checked here; negative ones do nothing. */
export function balancesOf(balances: PalletContext, system: PalletContext): BalancesContext {
  const free = (account: string): bigint => readAccount(balances, account).data.free
  return {
    free,
    issuance: () => balances.get('TotalIssuance') as bigint,
    deposit(account, amount) {
      const before = free(account)
      // As Substrate: too little to create an account with is not minted at all.
      if (amount <= 0n || before + amount < EXISTENTIAL_DEPOSIT) return
      writeFree(balances, system, account, before + amount)
      addIssuance(balances, amount)
      balances.emit('Deposit', { who: account, amount })
    },
    withdraw(account, amount) {
      const before = free(account)
      if (amount < 0n || before - amount < EXISTENTIAL_DEPOSIT) return amount === 0n
      if (amount === 0n) return true
      writeFree(balances, system, account, before - amount)
      addIssuance(balances, -amount)
      balances.emit('Withdraw', { who: account, amount })
      return true
    },
    transfer(from, to, amount) {
      const source = free(from)
      if (amount === 0n || (from === to && amount > 0n && source >= amount)) return true
      if (amount < 0n || source - amount < EXISTENTIAL_DEPOSIT) return false
      if (free(to) + amount < EXISTENTIAL_DEPOSIT) return false
      writeFree(balances, system, to, free(to) + amount)
      writeFree(balances, system, from, source - amount)
      balances.emit('Transfer', { from, to, amount })
      return true
    },
  }
}
