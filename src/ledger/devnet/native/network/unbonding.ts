import { type OrderedMap, lookUp, withEntry, withoutKey } from './ordered-map.ts'
import type { Handlers, NetworkState } from './state.ts'

type Ledger = OrderedMap<number, bigint>

/**
 * Books an amount that left stake; `claim_unbondings` pays it out after `cooldownEpochs`. Amounts of one block add up. A
 * full ledger is first relieved of what can be claimed; when that does not help the call ends with MaxUnlockingsReached.
 */
export function unbond(net: NetworkState, account: string, amount: bigint, cooldownEpochs: number): void {
  const most = net.num('MaxUnbondings')
  if (net.get<Ledger>('StakeUnbondingLedger', account).length === most) claim(net, account)
  const ledger = net.get<Ledger>('StakeUnbondingLedger', account)
  net.ensure(ledger.length < most, 'MaxUnlockingsReached')
  const block = net.block + cooldownEpochs * net.epochBlocks
  net.put('StakeUnbondingLedger', [account], withEntry(ledger, block, (lookUp(ledger, block) ?? 0n) + amount))
  net.grow('TotalUnbondingBalance', [], amount)
}

/**
 * Pays out what is due. What is too little to create an account with stays in the ledger. @returns how many entries were
 * paid.
 */
export function claim(net: NetworkState, account: string): number {
  const { balances } = net.context
  const due = net.get<Ledger>('StakeUnbondingLedger', account).filter(([block]) => block <= net.block)
  let paid = 0
  for (const [block, amount] of due) {
    const before = balances.free(account)
    balances.deposit(account, amount)
    if (balances.free(account) === before) continue
    const ledger = net.get<Ledger>('StakeUnbondingLedger', account)
    net.put('StakeUnbondingLedger', [account], withoutKey(ledger, block))
    net.shrink('TotalUnbondingBalance', [], amount)
    paid++
  }
  return paid
}

export const unbondingCalls: Handlers = {
  claim_unbondings(net: NetworkState, _args, who) {
    net.ensure(claim(net, who) > 0, 'NoStakeUnbondingsOrCooldownNotMet')
  },
}
