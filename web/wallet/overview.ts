import type { Ledger, NodeClass, Subnet, Unbonding } from '../../src/ledger/ledger.ts'
import { accountBytes } from '../../src/ledger/substrate/accounts.ts'

/** Stake that an account may take back: in a live node, or left by a node that was removed. */
export interface Position {
  readonly subnetId: number
  readonly subnetName: string
  readonly hotkey: string
  readonly stake: bigint
  /** Undefined once the node was removed. */
  readonly node: OwnNode | undefined
}

/** A node whose coldkey or hotkey the account is. */
export interface OwnNode {
  readonly id: number
  readonly peerId: string
  readonly class: NodeClass
  readonly queued: boolean
  /** 1e18 = 100 %. */
  readonly reputation: bigint
  readonly as: 'coldkey' | 'hotkey'
}

/** Where an account's money is, at one block. */
export interface Overview {
  readonly block: number
  readonly free: bigint
  readonly subnets: readonly Subnet[]
  readonly positions: readonly Position[]
  readonly delegated: readonly {
    readonly subnetId: number
    readonly subnetName: string
    readonly shares: bigint
    readonly balance: bigint
  }[]
  readonly unbondings: readonly Unbonding[]
}

/** Reads all of it from one block. @throws `unreachable`, `timeout`, `ledger`. */
export async function readOverview(ledger: Ledger, account: string): Promise<Overview> {
  const { number: block, hash } = await ledger.head()
  const free = await ledger.balance(account, hash)
  if (ledger.info.epochBlocks === 0) {
    return { block, free, subnets: [], positions: [], delegated: [], unbondings: [] }
  }
  const [subnets, unbondings, hotkeys] = await Promise.all([
    ledger.subnets(hash),
    ledger.unbondings(account, hash),
    // Other versions of the pallet may have no such map; stake of removed nodes is not listed then.
    ledger.storage('Network', 'ColdkeyHotkeys', [account], hash).catch(() => undefined),
  ])
  const own = keyOf(account)
  const known = Array.isArray(hotkeys) ? hotkeys.filter((key) => typeof key === 'string') : []
  const [positions, delegated] = await Promise.all([
    Promise.all(subnets.map((subnet) => positionsIn(ledger, subnet, own, known, hash))),
    Promise.all(
      subnets.map(async ({ id, name }) => ({
        subnetId: id,
        subnetName: name,
        ...(await ledger.delegateStake(account, id, hash)),
      })),
    ),
  ])
  return {
    block,
    free,
    subnets,
    positions: positions.flat(),
    delegated: delegated.filter(({ shares }) => shares > 0n),
    unbondings,
  }
}

async function positionsIn(
  ledger: Ledger,
  { id: subnetId, name: subnetName }: Subnet,
  own: string,
  hotkeys: readonly string[],
  hash: string,
): Promise<readonly Position[]> {
  const nodes = await ledger.nodes(subnetId, hash)
  const live = nodes.flatMap((node): Position[] => {
    const as = keyOf(node.coldkey) === own ? 'coldkey' : keyOf(node.hotkey) === own ? 'hotkey' : undefined
    if (as === undefined) return []
    const { id, peerId, class: nodeClass, queued, reputation, hotkey, stake } = node
    return [
      { subnetId, subnetName, hotkey, stake, node: { id, peerId, class: nodeClass, queued, reputation, as } },
    ]
  })
  const left = hotkeys.filter((hotkey) => live.every((position) => position.hotkey !== hotkey))
  const stakes = await Promise.all(
    left.map(async (hotkey): Promise<Position> => {
      const stake = await ledger.storage('Network', 'AccountSubnetStake', [hotkey, subnetId], hash)
      return {
        subnetId,
        subnetName,
        hotkey,
        stake: typeof stake === 'bigint' ? stake : 0n,
        node: undefined,
      }
    }),
  )
  return [...live, ...stakes.filter(({ stake }) => stake > 0n)]
}

/** The same for all spellings of an account. */
function keyOf(account: string): string {
  return accountBytes(account)?.join() ?? account
}
