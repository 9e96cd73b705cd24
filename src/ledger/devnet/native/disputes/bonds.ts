import { type DisputeState, ensure, PALLET_NAME, parameter } from './records.ts'

const TOTAL = `${PALLET_NAME}.TotalBonds`

/** Takes a bond from an account into the pallet's books. @returns the amount. */
export function takeBond(state: DisputeState, account: string): bigint {
  const amount = parameter<bigint>(state, 'ProposalBidAmount')
  ensure(state, state.context.balances.withdraw(account, amount), 'NotEnoughBalanceToBid')
  state.context.set(TOTAL, [], (state.context.get(TOTAL) as bigint) + amount)
  return amount
}

/** Pays an amount out of the pallet's books; it stays there when it is too little to create the account with. */
export function payOut(state: DisputeState, account: string, amount: bigint): void {
  const { balances } = state.context
  if (amount === 0n) return
  const before = balances.free(account)
  balances.deposit(account, amount)
  if (balances.free(account) === before) return
  state.context.set(TOTAL, [], (state.context.get(TOTAL) as bigint) - amount)
}

/** Pays an amount in equal parts to accounts, in order; what does not divide goes to `rest`. */
export function payShares(
  state: DisputeState,
  accounts: readonly string[],
  amount: bigint,
  rest: string,
): void {
  if (amount === 0n) return
  const share = accounts.length === 0 ? 0n : amount / BigInt(accounts.length)
  for (const account of accounts) payOut(state, account, share)
  payOut(state, rest, amount - share * BigInt(accounts.length))
}
