import type { LedgerValue } from '../../../ledger.ts'
import { mulDiv } from './fixed-point.ts'
import type { NetworkState } from './state.ts'

/** A pool of delegate stake whose owners hold shares: a subnet's, or one node's. */
export interface Pool {
  readonly sharesItem: string
  readonly balanceItem: string
  readonly keys: readonly LedgerValue[]
  readonly accountItem: string
  /** Sum of the balances of all pools of the kind. */
  readonly totalItem: string
  /** The subnet whose net flow counts what comes and goes. */
  readonly flowOf: number | undefined
}

/** Shares that nobody owns, made with a pool's first deposit; they keep the price of a share from being inflated. */
export const DEAD_SHARES = 1000n

export function subnetPool(subnetId: number): Pool {
  return {
    sharesItem: 'TotalSubnetDelegateStakeShares',
    balanceItem: 'TotalSubnetDelegateStakeBalance',
    keys: [subnetId],
    accountItem: 'AccountSubnetDelegateStakeShares',
    totalItem: 'TotalDelegateStake',
    flowOf: subnetId,
  }
}

export function nodePool(subnetId: number, nodeId: number): Pool {
  return {
    sharesItem: 'TotalNodeDelegateStakeShares',
    balanceItem: 'TotalNodeDelegateStakeBalance',
    keys: [subnetId, nodeId],
    accountItem: 'AccountNodeDelegateStakeShares',
    totalItem: 'TotalNodeDelegateStake',
    flowOf: undefined,
  }
}

/** Shares for a deposit: 1:1 into an empty pool, else `amount · (shares + 10) / (balance + 1)`. */
export function toShares(amount: bigint, shares: bigint, balance: bigint): bigint {
  return shares === 0n ? amount : mulDiv(amount, shares + 10n, balance + 1n)
}

/** What shares are worth: `shares · (balance + 1) / (total + 10)`. */
export function toBalance(shares: bigint, total: bigint, balance: bigint): bigint {
  return total === 0n ? shares : mulDiv(shares, balance + 1n, total + 10n)
}

/** What the pool's shares are worth now. */
export function poolValue(net: NetworkState, pool: Pool, shares: bigint): bigint {
  return toBalance(shares, net.big(pool.sharesItem, ...pool.keys), net.big(pool.balanceItem, ...pool.keys))
}

export function sharesOf(net: NetworkState, pool: Pool, account: string): bigint {
  return net.big(pool.accountItem, account, ...pool.keys)
}

/** Books an amount as the account's shares. @returns false, and books nothing, when it is too little for one share. */
export function deposit(net: NetworkState, pool: Pool, account: string, amount: bigint): boolean {
  const total = net.big(pool.sharesItem, ...pool.keys)
  const shares = toShares(amount, total, net.big(pool.balanceItem, ...pool.keys))
  if (shares === 0n) return false
  net.grow(pool.accountItem, [account, ...pool.keys], shares)
  net.grow(pool.sharesItem, pool.keys, total === 0n ? shares + DEAD_SHARES : shares)
  net.grow(pool.balanceItem, pool.keys, amount)
  net.grow(pool.totalItem, [], amount)
  addFlow(net, pool, amount)
  return true
}

/** Turns shares, which the account has, into their worth. */
export function redeem(net: NetworkState, pool: Pool, account: string, shares: bigint): bigint {
  const amount = poolValue(net, pool, shares)
  net.shrink(pool.accountItem, [account, ...pool.keys], shares)
  net.shrink(pool.sharesItem, pool.keys, shares)
  net.shrink(pool.balanceItem, pool.keys, amount)
  net.shrink(pool.totalItem, [], amount)
  addFlow(net, pool, -amount)
  return amount
}

/** Raises the worth of everybody's shares. */
export function donate(net: NetworkState, pool: Pool, amount: bigint): void {
  if (net.big(pool.balanceItem, ...pool.keys) === 0n || net.big(pool.sharesItem, ...pool.keys) === 0n)
    net.grow(pool.sharesItem, pool.keys, DEAD_SHARES)
  net.grow(pool.balanceItem, pool.keys, amount)
  net.grow(pool.totalItem, [], amount)
}

/** Moves shares, which the account has, to another account. */
export function transferShares(
  net: NetworkState,
  pool: Pool,
  from: string,
  to: string,
  shares: bigint,
): void {
  net.shrink(pool.accountItem, [from, ...pool.keys], shares)
  net.grow(pool.accountItem, [to, ...pool.keys], shares)
}

function addFlow(net: NetworkState, pool: Pool, amount: bigint): void {
  if (pool.flowOf !== undefined)
    net.put('SubnetNetFlow', [pool.flowOf], net.big('SubnetNetFlow', pool.flowOf) + amount)
}
