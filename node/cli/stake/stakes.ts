import { formatAmount } from '../../../src/ledger/amounts.ts'
import type { Ledger, LedgerInfo, NodeClass, Unbonding } from '../../../src/ledger/ledger.ts'
import { printable } from '../terminal.ts'
import { untilBlock } from '../ledger/epochs.ts'

/** Where an account's money is. */
export interface Stakes {
  readonly account: string
  readonly block: number
  readonly free: bigint
  readonly nodes: readonly {
    readonly subnet: number
    readonly subnetName: string
    readonly node: number
    readonly as: 'coldkey' | 'hotkey'
    readonly class: NodeClass
    readonly stake: bigint
    /** 1e18 = 100 %. */
    readonly reputation: bigint
  }[]
  readonly delegated: readonly {
    readonly subnet: number
    readonly subnetName: string
    readonly shares: bigint
    readonly balance: bigint
  }[]
  readonly unbondings: readonly Unbonding[]
}

/** Reads all of it from one block. */
export async function stakesOf(ledger: Ledger, account: string): Promise<Stakes> {
  const { number: block, hash } = await ledger.head()
  const free = await ledger.balance(account, hash)
  if (ledger.info.epochBlocks === 0) return { account, block, free, nodes: [], delegated: [], unbondings: [] }
  const subnets = await ledger.subnets(hash)
  const nodes = await Promise.all(
    subnets.map(async ({ id, name }) =>
      (await ledger.nodes(id, hash))
        .filter(({ coldkey, hotkey }) => coldkey === account || hotkey === account)
        .map((node) => ({
          subnet: id,
          subnetName: name,
          node: node.id,
          as: node.coldkey === account ? ('coldkey' as const) : ('hotkey' as const),
          class: node.class,
          stake: node.stake,
          reputation: node.reputation,
        })),
    ),
  )
  const delegated = await Promise.all(
    subnets.map(async ({ id, name }) => ({
      subnet: id,
      subnetName: name,
      ...(await ledger.delegateStake(account, id, hash)),
    })),
  )
  return {
    account,
    block,
    free,
    nodes: nodes.flat(),
    delegated: delegated.filter(({ shares }) => shares > 0n),
    unbondings: await ledger.unbondings(account, hash),
  }
}

/** For people. */
export function stakesText(stakes: Stakes, info: LedgerInfo): string {
  const lines = [`account    ${stakes.account}`, `free       ${formatAmount(stakes.free, info)}`]
  for (const node of stakes.nodes) {
    const percent = Number((node.reputation * 1000n) / 10n ** 18n) / 10
    lines.push(
      `staked     ${formatAmount(node.stake, info)} in node ${node.node} of ${printable(node.subnetName)} (${node.subnet}), ` +
        `${node.class}, reputation ${percent} %${node.as === 'hotkey' ? ', as its hotkey' : ''}`,
    )
  }
  for (const { subnetName, subnet, balance } of stakes.delegated)
    lines.push(`delegated  ${formatAmount(balance, info)} to ${printable(subnetName)} (${subnet})`)
  for (const { amount, block } of stakes.unbondings)
    lines.push(
      `unbonding  ${formatAmount(amount, info)}, claimable ${untilBlock(block, stakes.block, info.blockMs)}`,
    )
  return `${lines.join('\n')}\n`
}
