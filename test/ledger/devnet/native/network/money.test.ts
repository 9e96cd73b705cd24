import { describe, expect, it } from 'vitest'
import { DispatchFailure } from '../../../../../src/ledger/devnet/native/dispatch-error.ts'
import { percentMul } from '../../../../../src/ledger/devnet/native/network/fixed-point.ts'
import type { ConsensusData, SubnetNode } from '../../../../../src/ledger/devnet/native/network/records.ts'
import { TREASURY } from '../../../../../src/ledger/devnet/native/network/state.ts'
import { account, type ChainEvent, type TestChain, TOKEN } from './chain.ts'
import {
  activeSubnet,
  coldkey,
  DELEGATOR,
  hotkey,
  nextStep,
  nodeArgs,
  OWNER,
  type Subnet,
  subnetEpoch,
} from './subnet.ts'

/** Numbers that nobody chose but everybody gets. */
function randoms(seed: number): (below: number) => number {
  let state = seed
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
}

const sum = (values: readonly bigint[]): bigint => values.reduce((total, value) => total + value, 0n)
const values = (chain: TestChain, item: string): bigint[] =>
  chain.net.entries<bigint>(item).map(({ value }) => value)

/** What must hold after every block and call: totals are sums of their parts, counters count. */
function checkInvariants(chain: TestChain): void {
  const { net } = chain
  expect(net.big('TotalStake')).toBe(sum(values(chain, 'AccountSubnetStake')))
  expect(net.big('TotalStake')).toBe(sum(values(chain, 'TotalSubnetStake')))
  expect(net.big('TotalDelegateStake')).toBe(sum(values(chain, 'TotalSubnetDelegateStakeBalance')))
  expect(net.big('TotalNodeDelegateStake')).toBe(sum(values(chain, 'TotalNodeDelegateStakeBalance')))
  expect(net.big('TotalAccountDelegateStake')).toBe(sum(values(chain, 'AccountDelegateStake')))
  const ledgers = net.entries<readonly (readonly [number, bigint])[]>('StakeUnbondingLedger')
  const unbonding = ledgers.flatMap(({ value }) => value.map(([, amount]) => amount))
  expect(net.big('TotalUnbondingBalance')).toBe(sum(unbonding))
  const accounts = chain.state.entries('System.Account', []) as unknown as readonly {
    value: { data: { free: bigint } }
  }[]
  expect(chain.state.balances.issuance()).toBe(sum(accounts.map(({ value }) => value.data.free)))
  let [nodes, active, electable] = [0, 0, 0]
  for (const { keys } of net.entries('SubnetsData')) {
    const [id] = keys as [number]
    const live = net.entries<SubnetNode>('SubnetNodesData', id).map(({ value }) => value)
    const queue = net.get<readonly SubnetNode[]>('SubnetNodeQueue', id)
    const registered = net.entries<SubnetNode>('RegisteredSubnetNodesData', id)
    expect(registered.map(({ value }) => value).toSorted((a, b) => a.id - b.id)).toEqual(
      queue.toSorted((a, b) => a.id - b.id),
    )
    const slots = net.get<readonly number[]>('SubnetNodeElectionSlots', id)
    const validators = live
      .filter((node) => node.classification.node_class === 'Validator')
      .map((node) => node.id)
    expect(slots.toSorted((a, b) => a - b)).toEqual(validators.toSorted((a, b) => a - b))
    slots.forEach((node, index) => expect(net.num('NodeSlotIndex', id, node)).toBe(index))
    expect(net.entries('NodeSlotIndex', id)).toHaveLength(slots.length)
    expect(net.num('TotalSubnetElectableNodes', id)).toBe(slots.length)
    expect(net.num('TotalActiveSubnetNodes', id)).toBe(live.length)
    expect(net.num('TotalSubnetNodes', id)).toBe(live.length + queue.length)
    expect(net.entries('HotkeySubnetNodeId', id)).toHaveLength(live.length + queue.length)
    expect(net.entries('PeerIdSubnetNodeId', id)).toHaveLength(live.length + queue.length)
    for (const node of [...live, ...queue]) {
      expect(net.get('SubnetNodeIdHotkey', id, node.id)).toBe(node.hotkey)
      expect(net.num('HotkeySubnetNodeId', id, node.hotkey)).toBe(node.id)
      expect(net.num('PeerIdSubnetNodeId', id, node.peer_info.peer_id)).toBe(node.id)
    }
    nodes += live.length + queue.length
    active += live.length
    electable += slots.length
    const shares = net
      .entries<bigint>('AccountSubnetDelegateStakeShares')
      .filter(({ keys: [, subnet] }) => subnet === id)
    const total = net.big('TotalSubnetDelegateStakeShares', id)
    if (total > 0n) expect(sum(shares.map(({ value }) => value))).toBeLessThanOrEqual(total - 1000n)
  }
  expect([net.num('TotalNodes'), net.num('TotalActiveNodes'), net.num('TotalElectableNodes')]).toEqual([
    nodes,
    active,
    electable,
  ])
}

/** What a step minted and burned by its events and storage, the proposer's reward by its formula. */
function accounted(
  subnet: Subnet,
  events: readonly ChainEvent[],
  submission: ConsensusData | undefined,
): bigint {
  let minted = 0n
  let consensus = false
  for (const { pallet, name, data } of events) {
    const fields = data as unknown
    if (pallet === 'Balances' && name === 'Deposit') {
      const { who, amount } = fields as { who: string; amount: bigint }
      // The treasury's part of the emission, and the owner's.
      if (who === TREASURY || who === subnet.chain.net.get('SubnetOwner', subnet.id)) minted += amount
    }
    if (name === 'Slashing') minted -= (fields as { amount: bigint }).amount
    if (name === 'SubnetRewards') {
      consensus = true
      const rewards = fields as {
        node_rewards: [number, bigint][]
        delegate_stake_reward: bigint
        node_delegate_stake_rewards: [number, bigint][]
        node_delegate_account_allocations: [number, [string, bigint]][]
      }
      minted += rewards.delegate_stake_reward
      minted += sum(rewards.node_rewards.map(([, amount]) => amount))
      minted += sum(rewards.node_delegate_stake_rewards.map(([, amount]) => amount))
      minted += sum(rewards.node_delegate_account_allocations.map(([, [, amount]]) => amount))
    }
  }
  // The proposer, if its node still stood when the step began.
  if (consensus && submission !== undefined && proposerStood(subnet, submission))
    minted += percentMul(subnet.chain.net.big('BaseValidatorReward'), submission.validator_reward_factor)
  return minted
}

let stood: ReadonlySet<number> = new Set()
const proposerStood = (_subnet: Subnet, submission: ConsensusData): boolean =>
  stood.has(submission.validator_id)

describe('money', () => {
  it.each([1, 2, 3])(
    'random calls, seed %i: the supply changes only by what was minted and burned',
    (seed) => {
      const subnet = activeSubnet(5)
      const { chain, id } = subnet
      const random = randoms(seed)
      const people = [OWNER, DELEGATOR, account(3), account(4), ...[1, 2, 3, 4, 5, 6, 7, 8].map(coldkey)]
      const amounts = [0n, 999n, 1000n, 123_456_789n, TOKEN / 3n, TOKEN, 3n * TOKEN, 77n * TOKEN, 10n ** 30n]
      const pick = <T>(list: readonly T[]): T => list[random(list.length)] as T
      let succeeded = 0
      for (let step = 0; step < 600; step++) {
        const who = random(2) === 0 ? DELEGATOR : pick(people)
        const node = 1 + random(8)
        const other = 1 + random(5)
        const amount = pick(amounts)
        const shares =
          chain.net.big('AccountSubnetDelegateStakeShares', who, id) / BigInt(1 + random(3)) +
          BigInt(random(2))
        const nodeShares =
          chain.net.big('AccountNodeDelegateStakeShares', who, id, other) / BigInt(1 + random(2))
        const owner = coldkey(node)
        const calls: readonly (readonly [string, string, Record<string, never>])[] = [
          [
            owner,
            'add_stake',
            { subnet_id: id, subnet_node_id: node, hotkey: hotkey(node), stake_to_be_added: amount },
          ],
          [owner, 'remove_stake', { subnet_id: id, hotkey: hotkey(node), stake_to_be_removed: amount }],
          [owner, 'claim_unbondings', {}],
          [who, 'claim_unbondings', {}],
          [who, 'add_to_delegate_stake', { subnet_id: id, stake_to_be_added: amount }],
          [who, 'remove_delegate_stake', { subnet_id: id, shares_to_be_removed: shares }],
          [who, 'donate_delegate_stake', { subnet_id: id, amount }],
          [
            who,
            'transfer_delegate_stake',
            { subnet_id: id, to_account_id: pick(people), delegate_stake_shares_to_transfer: shares },
          ],
          [
            who,
            'add_to_node_delegate_stake',
            { subnet_id: id, subnet_node_id: other, node_delegate_stake_to_be_added: amount },
          ],
          [
            who,
            'remove_node_delegate_stake',
            { subnet_id: id, subnet_node_id: other, node_delegate_stake_shares_to_be_removed: nodeShares },
          ],
          [who, 'donate_node_delegate_stake', { subnet_id: id, subnet_node_id: other, amount }],
          [
            who,
            'transfer_node_delegate_stake',
            {
              subnet_id: id,
              subnet_node_id: other,
              to_account_id: pick(people),
              node_delegate_stake_shares_to_transfer: nodeShares,
            },
          ],
          [
            who,
            'swap_from_subnet_to_node',
            {
              from_subnet_id: id,
              to_subnet_id: id,
              to_subnet_node_id: other,
              delegate_stake_shares_to_swap: shares,
            },
          ],
          [
            who,
            'swap_from_node_to_subnet',
            {
              from_subnet_id: id,
              from_subnet_node_id: other,
              to_subnet_id: id,
              node_delegate_stake_shares_to_swap: nodeShares,
            },
          ],
          [
            who,
            'swap_delegate_stake',
            { from_subnet_id: id, to_subnet_id: id, delegate_stake_shares_to_swap: shares },
          ],
          [owner, 'register_subnet_node', nodeArgs(id, node, { delegate_reward_rate: TOKEN / 5n })],
          [owner, 'remove_subnet_node', { subnet_id: id, subnet_node_id: node }],
          [who, 'remove_delegate_balance', { amount_to_remove: amount }],
        ] as unknown as (readonly [string, string, Record<string, never>])[]
        const [caller, name, args] = pick(calls)
        const supply = chain.supply()
        const burns =
          name === 'register_subnet_node'
            ? percentMul(chain.net.big('BaseNodeBurnAmount'), chain.net.big('CurrentNodeBurnRate', id))
            : 0n
        let burned = 0n
        try {
          chain.call(caller, name, args)
          burned = burns
          succeeded++
        } catch (error) {
          if (!(error instanceof DispatchFailure)) throw error
        }
        expect(chain.supply(), `${name} of ${caller}`).toBe(supply - burned)
        if (random(4) === 0) {
          if (random(2) === 0) propose(subnet, random)
          stepAndAccount(subnet)
        }
      }
      checkInvariants(chain)
      expect(succeeded).toBeGreaterThan(60)
    },
  )

  it('100 epochs with random proposals: totals, counts and slots hold, every step is accounted to the last unit', () => {
    const subnet = activeSubnet(7)
    const { chain, id } = subnet
    const random = randoms(7)
    chain.call(coldkey(1), 'update_delegate_account', {
      subnet_id: id,
      subnet_node_id: 1,
      delegate_account_id: account(3),
      delegate_rate: TOKEN / 4n,
    })
    chain.call(coldkey(2), 'update_node_delegate_reward_rate', {
      subnet_id: id,
      subnet_node_id: 2,
      new_delegate_reward_rate: TOKEN / 2n,
    })
    chain.call(DELEGATOR, 'add_to_node_delegate_stake', {
      subnet_id: id,
      subnet_node_id: 2,
      node_delegate_stake_to_be_added: 50n * TOKEN,
    })
    let slashes = 0
    let payments = 0
    for (let epoch = 0; epoch < 100; epoch++) {
      if (random(12) === 0) {
        const node = 8 + random(7)
        try {
          chain.call(coldkey(node), 'register_subnet_node', nodeArgs(id, node))
        } catch (error) {
          if (!(error instanceof DispatchFailure)) throw error
        }
      }
      propose(subnet, random)
      const events = stepAndAccount(subnet)
      slashes += events.filter(({ name }) => name === 'Slashing').length
      payments += events.filter(({ name }) => name === 'SubnetRewards').length
      checkInvariants(chain)
    }
    expect(slashes).toBeGreaterThan(3)
    expect(payments).toBeGreaterThan(40)
    expect(chain.net.big('AccountDelegateStake', account(3))).toBeGreaterThan(0n)
    expect(chain.net.big('TotalNodeDelegateStakeBalance', id, 2)).toBeGreaterThan(50n * TOKEN)
  })
})

/** Somebody elected proposes random scores; of the others a random part attests. */
function propose(subnet: Subnet, random: (below: number) => number): void {
  const { chain, id } = subnet
  const proposer = chain.net.get<number | undefined>('SubnetElectedValidator', id, subnetEpoch(subnet))
  const key =
    proposer === undefined ? undefined : chain.net.get<string | undefined>('SubnetNodeIdHotkey', id, proposer)
  if (key === undefined || random(10) === 0) return
  const nodes = chain.net.entries<SubnetNode>('SubnetNodesData', id).map(({ value }) => value)
  const honesty = random(10)
  chain.call(key, 'propose_attestation', {
    subnet_id: id,
    data: nodes
      .filter(() => random(15) > 0)
      .map((node) => ({ subnet_node_id: node.id, score: BigInt(random(100)) })),
    prioritize_queue_node_id: random(20),
    remove_queue_node_id: random(20),
    args: undefined,
    attest_data: undefined,
  })
  for (const node of nodes) {
    if (random(12) > honesty + 5) continue
    if (random(3) === 0) chain.goTo(Math.min(chain.block + 1, chain.block - (chain.block % 20) + 19))
    try {
      chain.call(node.hotkey, 'attest', { subnet_id: id, attest_data: undefined })
    } catch (error) {
      if (!(error instanceof DispatchFailure)) throw error
    }
  }
}

/** Goes to the next slot and checks that the supply moved by what the events and formulas say. */
function stepAndAccount(subnet: Subnet): ChainEvent[] {
  const { chain, id } = subnet
  const submission = chain.net.get<ConsensusData | undefined>(
    'SubnetConsensusSubmission',
    id,
    subnetEpoch(subnet),
  )
  stood = new Set(chain.net.entries<SubnetNode>('SubnetNodesData', id).map(({ value }) => value.id))
  const supply = chain.supply()
  const events = nextStep(subnet)
  expect(chain.supply() - supply).toBe(accounted(subnet, events, submission))
  return events
}
