import type { NetworkState } from './state.ts'

/** Ends the call with `error` when the account's free balance is less than the amount. */
export function ensureFunds(net: NetworkState, account: string, amount: bigint, error: string): void {
  net.ensure(amount <= net.context.balances.free(account), error)
}

/** Takes the amount out of circulation into this pallet's books; the existential deposit must remain. */
export function withdraw(net: NetworkState, account: string, amount: bigint, error: string): void {
  net.ensure(net.context.balances.withdraw(account, amount), error)
}

/** Ends the call when the account's last transaction of this kind is too recent. */
export function ensureRate(net: NetworkState, account: string): void {
  const limit = net.num('TxRateLimit')
  const last = net.num('LastTxBlock', account)
  net.ensure(limit === 0 || last === 0 || net.block - last > limit, 'TxRateLimitExceeded')
}

export function markTransaction(net: NetworkState, account: string): void {
  net.put('LastTxBlock', [account], net.block)
}

/** Everything there is: balances, and what this pallet's books hold outside of them. The overwatch stake is not counted. */
export function networkIssuance(net: NetworkState): bigint {
  return [
    'TotalStake',
    'TotalDelegateStake',
    'TotalNodeDelegateStake',
    'TotalUnbondingBalance',
    'TotalAccountDelegateStake',
  ].reduce((sum, item) => sum + net.big(item), net.context.balances.issuance())
}
