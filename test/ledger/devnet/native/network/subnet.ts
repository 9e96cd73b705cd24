import type { LedgerValue } from '../../../../../src/ledger/ledger.ts'
import { account, type ChainEvent, multiaddr, peerId, TestChain, text, TOKEN } from './chain.ts'

/** Owner of the test subnet. */
export const OWNER = account(1)
/** Coldkey and hotkey of node `i` (1-based). */
export const coldkey = (i: number): string => account(0x1000 + i)
export const hotkey = (i: number): string => account(0x2000 + i)
/** Somebody who delegates. */
export const DELEGATOR = account(2)

export function endow(nodes: number, amount = 10_000n * TOKEN): Record<string, bigint> {
  const accounts = [OWNER, DELEGATOR, account(3), account(4)]
  for (let i = 1; i <= nodes; i++) accounts.push(coldkey(i))
  return Object.fromEntries(accounts.map((who) => [who, amount]))
}

export function subnetData(
  n = 1,
  coldkeys: readonly string[] = [1, 2, 3].map(coldkey),
): Record<string, LedgerValue> {
  return {
    name: text(`subnet ${n}`),
    repo: text(`repo ${n}`),
    description: text('what it serves'),
    misc: text('{}'),
    min_stake: 100n * TOKEN,
    max_stake: 1000n * TOKEN,
    delegate_stake_percentage: TOKEN / 10n,
    initial_coldkeys: coldkeys.map((key) => [key, 1] as const),
    bootnodes: [[peerId(9000 + n), multiaddr(9000 + n)]],
  }
}

export function nodeArgs(
  subnetId: number,
  i: number,
  more: Record<string, LedgerValue> = {},
): Record<string, LedgerValue> {
  return {
    subnet_id: subnetId,
    hotkey: hotkey(i),
    peer_info: { peer_id: peerId(i), multiaddr: multiaddr(i) },
    bootnode_peer_info: undefined,
    client_peer_info: undefined,
    delegate_reward_rate: 0n,
    stake_to_be_added: 100n * TOKEN,
    unique: undefined,
    non_unique: undefined,
    delegate_account: undefined,
    max_burn_amount: TOKEN,
    ...more,
  }
}

export interface Subnet {
  readonly chain: TestChain
  readonly id: number
  readonly slot: number
  readonly epochBlocks: number
}

/** A subnet that is active, with so many Validator nodes, delegate stake, and its first epoch begun. */
export function activeSubnet(nodes = 4, epochBlocks = 20, chain?: TestChain): Subnet {
  const used = chain ?? new TestChain({ epochBlocks, endowed: endow(nodes + 8) })
  const keys = Array.from({ length: nodes }, (_, i) => coldkey(i + 1))
  used.call(OWNER, 'register_subnet', { max_cost: TOKEN, subnet_data: subnetData(1, keys) })
  const id = used.net.num('TotalSubnetUids')
  for (let i = 1; i <= nodes; i++) used.call(coldkey(i), 'register_subnet_node', nodeArgs(id, i))
  used.call(DELEGATOR, 'add_to_delegate_stake', { subnet_id: id, stake_to_be_added: 1000n * TOKEN })
  const slot = used.net.num('SubnetSlot', id)
  const start = (Math.floor(used.block / epochBlocks) + 1) * epochBlocks
  used.goTo(start)
  used.call(OWNER, 'activate_subnet', { subnet_id: id })
  const subnet = { chain: used, id, slot, epochBlocks }
  nextStep(subnet)
  return subnet
}

/** Goes to the subnet's next slot. @returns the events on the way. */
export function nextStep({ chain, slot, epochBlocks }: Subnet): ChainEvent[] {
  const events = chain.next()
  while (chain.block % epochBlocks !== slot) events.push(...chain.next())
  return events
}

export function subnetEpoch({ chain, slot, epochBlocks }: Subnet): number {
  return Math.floor((chain.block - slot) / epochBlocks)
}

export function elected(subnet: Subnet): number | undefined {
  return subnet.chain.net.get<number | undefined>('SubnetElectedValidator', subnet.id, subnetEpoch(subnet))
}

/** The elected node proposes scores (1 for each id by default) and so many of the others attest. */
export function proposeAndAttest(
  subnet: Subnet,
  attestors: readonly number[],
  scores: readonly (readonly [number, bigint])[],
  more: Record<string, LedgerValue> = {},
): void {
  const proposer = elected(subnet)
  if (proposer === undefined) throw new Error('nobody is elected')
  const { chain, id } = subnet
  chain.call(chain.net.get('SubnetNodeIdHotkey', id, proposer), 'propose_attestation', {
    subnet_id: id,
    data: scores.map(([subnet_node_id, score]) => ({ subnet_node_id, score })),
    prioritize_queue_node_id: undefined,
    remove_queue_node_id: undefined,
    args: undefined,
    attest_data: undefined,
    ...more,
  })
  for (const nodeId of attestors)
    if (nodeId !== proposer)
      chain.call(chain.net.get('SubnetNodeIdHotkey', id, nodeId), 'attest', {
        subnet_id: id,
        attest_data: undefined,
      })
}
