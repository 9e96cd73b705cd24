import { describe, expect, it } from 'vitest'
import { percentDiv, percentMul } from '../../../../../src/ledger/devnet/native/network/fixed-point.ts'
import { proposerFactor } from '../../../../../src/ledger/devnet/native/network/attestation.ts'
import type { DistributionData, SubnetNode } from '../../../../../src/ledger/devnet/native/network/records.ts'
import { TREASURY } from '../../../../../src/ledger/devnet/native/network/state.ts'
import { type ChainEvent, multiaddr, peerId, TestChain, TOKEN } from './chain.ts'
import {
  activeSubnet,
  coldkey,
  DELEGATOR,
  elected,
  endow,
  hotkey,
  nextStep,
  nodeArgs,
  OWNER,
  proposeAndAttest,
  type Subnet,
  subnetData,
  subnetEpoch,
} from './subnet.ts'

const named = (events: readonly ChainEvent[], name: string): unknown[] =>
  events.filter((event) => event.name === name).map(({ data }) => data)

const stakeOf = ({ chain, id }: Subnet, i: number): bigint =>
  chain.net.big('AccountSubnetStake', hotkey(i), id)

/** Steps until somebody is elected. */
function elect(subnet: Subnet): number {
  for (let i = 0; i < 3; i++) {
    const id = elected(subnet)
    if (id !== undefined) return id
    nextStep(subnet)
  }
  throw new Error('nobody was elected')
}

describe('life cycle of a subnet', () => {
  it('register_subnet: cost to the treasury, slot 3, friendly id 1, next cost doubled', () => {
    const chain = new TestChain({ endowed: endow(4) })
    const events = chain.call(OWNER, 'register_subnet', { max_cost: TOKEN, subnet_data: subnetData() })
    const cost = chain.free(TREASURY)
    expect(cost).toBeGreaterThan((999n * TOKEN) / 1000n)
    expect(named(events, 'SubnetRegistered')).toEqual([
      { owner: OWNER, name: new TextEncoder().encode('subnet 1'), subnet_id: 128_001 },
    ])
    expect(chain.net.num('SubnetSlot', 128_001)).toBe(3)
    expect(chain.net.get('SubnetsData', 128_001)).toMatchObject({ friendly_id: 1, state: 'Registered' })
    expect(chain.net.big('LastRegistrationCost')).toBe(2n * cost)
  })

  it('register_subnet_node before activation: Validator at once, an election slot, the burn burned', () => {
    const chain = new TestChain({ endowed: endow(4) })
    chain.call(OWNER, 'register_subnet', { max_cost: TOKEN, subnet_data: subnetData() })
    const supply = chain.supply()
    const events = chain.call(coldkey(1), 'register_subnet_node', nodeArgs(128_001, 1))
    expect(chain.supply()).toBe(supply - 10_000_000_000_000n)
    expect(named(events, 'StakeAdded')).toEqual([[128_001, coldkey(1), hotkey(1), 100n * TOKEN]])
    expect(named(events, 'SubnetNodeActivated')).toEqual([{ subnet_id: 128_001, subnet_node_id: 1 }])
    expect(chain.net.get('SubnetNodesData', 128_001, 1)).toMatchObject({
      classification: { node_class: 'Validator', start_epoch: 0 },
    })
    expect(chain.net.get('SubnetNodeElectionSlots', 128_001)).toEqual([1])
    expect(chain.net.get('InitialColdkeyData', 128_001)).toEqual([[coldkey(1), 1]])
  })

  it('rewards: every payment equals its formula, and the supply grows by exactly the payments', () => {
    const subnet = activeSubnet(4)
    const { chain, id } = subnet
    const proposer = elect(subnet)
    chain.goTo(chain.block + 2)
    const scores = [
      [1, 3n],
      [2, 1n],
      [3, 1n],
      [4, 3n],
    ] as const
    proposeAndAttest(subnet, [1, 2, 3], scores)
    const epoch = subnetEpoch(subnet)
    const submission = chain.net.get<{ validator_epoch_progress: bigint; validator_reward_factor: bigint }>(
      'SubnetConsensusSubmission',
      id,
      epoch,
    )
    expect(submission.validator_epoch_progress).toBe(TOKEN / 10n)
    expect(submission.validator_reward_factor).toBe(proposerFactor(chain.net, TOKEN / 10n))
    const before = [1, 2, 3, 4].map((i) => stakeOf(subnet, i))
    const supply = chain.supply()
    const [treasury, owner] = [chain.free(TREASURY), chain.free(OWNER)]
    const events = nextStep(subnet)
    const { validator_emissions, weights } = chain.net.get<DistributionData>(
      'FinalSubnetEmissionWeights',
      Math.floor(chain.block / 20),
    )
    expect(weights).toEqual([[id, TOKEN]])
    const ownerPart = percentMul(validator_emissions, (TOKEN * 23n) / 100n)
    const delegates = percentMul(validator_emissions - ownerPart, TOKEN / 10n)
    const pool = validator_emissions - ownerPart - delegates
    const attested = new Set([1, 2, 3, proposer])
    const nodes = scores.map(([node, score]): [number, bigint] => [
      node,
      percentMul(percentDiv(score, 8n), pool),
    ])
    const [rewards] = named(events, 'SubnetRewards')
    expect(rewards).toEqual({
      subnet_id: id,
      node_rewards: nodes,
      delegate_stake_reward: delegates,
      node_delegate_stake_rewards: [],
      node_delegate_account_allocations: [],
    })
    const proposerReward = submission.validator_reward_factor
    nodes.forEach(([node, amount], i) => {
      const base = node === proposer ? proposerReward : 0n
      expect(stakeOf(subnet, node) - (before[i] ?? 0n)).toBe(amount + base)
    })
    expect(chain.free(OWNER) - owner).toBe(ownerPart)
    // 4 of 4, or 3 of 4 = 0.75: below the super-majority silence costs no reputation.
    expect(named(events, 'NodeReputationUpdate').length).toBeLessThanOrEqual(attested.size)
    const minted =
      chain.free(TREASURY) -
      treasury +
      ownerPart +
      delegates +
      proposerReward +
      nodes.reduce((s, [, a]) => s + a, 0n)
    expect(chain.supply() - supply).toBe(minted)
  })

  it('bad proposal: too few attest, the proposer is slashed exactly by the formula; the next good one recovers', () => {
    const subnet = activeSubnet(4)
    const { chain, id } = subnet
    const proposer = elect(subnet)
    const [reputation, subnetReputation] = [
      chain.net.big('SubnetNodeReputation', id, proposer),
      chain.net.big('SubnetReputation', id),
    ]
    proposeAndAttest(subnet, [proposer], [[1, 1n]])
    const stake = stakeOf(subnet, proposer)
    const supply = chain.supply()
    const treasury = chain.free(TREASURY)
    const events = nextStep(subnet)
    const missing = TOKEN - percentDiv(TOKEN / 4n, (66n * TOKEN) / 100n)
    const expected = percentMul(percentMul(stake, 31_250_000_000_000_000n), missing)
    const slash = expected > TOKEN ? TOKEN : expected
    expect(named(events, 'Slashing')).toEqual([
      { subnet_id: id, account_id: hotkey(proposer), amount: slash },
    ])
    expect(stakeOf(subnet, proposer)).toBe(stake - slash)
    expect(chain.supply()).toBe(supply - slash + chain.free(TREASURY) - treasury)
    expect(named(events, 'SubnetRewards')).toEqual([])
    const first = reputation - percentMul(reputation, percentMul(TOKEN / 20n, missing))
    const second = first - percentMul(first, percentMul(TOKEN / 10n, missing))
    expect(named(events, 'NodeReputationUpdate')).toMatchObject([
      { subnet_node_id: proposer, prev_reputation: reputation, new_reputation: first },
      { subnet_node_id: proposer, prev_reputation: first, new_reputation: second },
    ])
    const lowered = subnetReputation - percentMul(subnetReputation, TOKEN / 8n)
    expect(chain.net.big('SubnetReputation', id)).toBe(lowered)

    elect(subnet)
    const all = [1, 2, 3, 4]
    proposeAndAttest(
      subnet,
      all,
      all.map((i) => [i, 1n]),
    )
    nextStep(subnet)
    expect(chain.net.big('SubnetReputation', id)).toBe(lowered + percentMul(TOKEN - lowered, TOKEN / 8n))
    expect(chain.net.big('SubnetNodeReputation', id, proposer)).toBe(
      second + percentMul(TOKEN - second, TOKEN / 10n),
    )
  })

  it('no proposal: the elected node and the subnet lose 5 % reputation', () => {
    const subnet = activeSubnet(4)
    const { chain, id } = subnet
    const proposer = elect(subnet)
    const before = [
      chain.net.big('SubnetReputation', id),
      chain.net.big('SubnetNodeReputation', id, proposer),
    ]
    nextStep(subnet)
    expect(chain.net.big('SubnetReputation', id)).toBe(((before[0] ?? 0n) * 95n) / 100n)
    expect(chain.net.big('SubnetNodeReputation', id, proposer)).toBe(((before[1] ?? 0n) * 95n) / 100n)
  })

  it('unbond and claim: from the block on, once, the whole amount', () => {
    const subnet = activeSubnet(4)
    const { chain, id } = subnet
    elect(subnet)
    nextStep(subnet)
    const node = [1, 2, 3, 4].find((i) => i !== elected(subnet)) ?? 0
    chain.call(coldkey(node), 'add_stake', {
      subnet_id: id,
      subnet_node_id: node,
      hotkey: hotkey(node),
      stake_to_be_added: 7n * TOKEN,
    })
    const supply = chain.supply()
    const events = chain.call(coldkey(node), 'remove_stake', {
      subnet_id: id,
      hotkey: hotkey(node),
      stake_to_be_removed: 7n * TOKEN,
    })
    expect(named(events, 'StakeRemoved')).toEqual([[id, coldkey(node), hotkey(node), 7n * TOKEN]])
    const due = chain.block + 20
    expect(chain.net.get('StakeUnbondingLedger', coldkey(node))).toEqual([[due, 7n * TOKEN]])
    expect(chain.error(coldkey(node), 'claim_unbondings')).toBe('NoStakeUnbondingsOrCooldownNotMet')
    expect(chain.supply()).toBe(supply)
    chain.goTo(due)
    const free = chain.free(coldkey(node))
    chain.call(coldkey(node), 'claim_unbondings')
    expect(chain.free(coldkey(node))).toBe(free + 7n * TOKEN)
    expect(chain.error(coldkey(node), 'claim_unbondings')).toBe('NoStakeUnbondingsOrCooldownNotMet')
    expect(chain.net.big('TotalUnbondingBalance')).toBe(0n)
  })

  it('delegates: shares gain with rewards, swap to a node pool an epoch later, donate, transfer', () => {
    const subnet = activeSubnet(4)
    const { chain, id } = subnet
    elect(subnet)
    const all = [1, 2, 3, 4]
    proposeAndAttest(
      subnet,
      all,
      all.map((i) => [i, 1n]),
    )
    nextStep(subnet)
    const shares = chain.net.big('AccountSubnetDelegateStakeShares', DELEGATOR, id)
    expect(shares).toBe(1000n * TOKEN)
    expect(chain.net.big('TotalSubnetDelegateStakeBalance', id)).toBeGreaterThan(1000n * TOKEN)
    const supply = chain.supply()
    chain.call(DELEGATOR, 'transfer_delegate_stake', {
      subnet_id: id,
      to_account_id: OWNER,
      delegate_stake_shares_to_transfer: shares / 4n,
    })
    expect(chain.net.big('AccountSubnetDelegateStakeShares', OWNER, id)).toBe(shares / 4n)
    // Nobody transfers what is not his.
    expect(
      chain.error(coldkey(1), 'transfer_delegate_stake', {
        subnet_id: id,
        to_account_id: OWNER,
        delegate_stake_shares_to_transfer: shares / 4n,
      }),
    ).toBe('NotEnoughStakeToWithdraw')
    chain.call(DELEGATOR, 'swap_from_subnet_to_node', {
      from_subnet_id: id,
      to_subnet_id: id,
      to_subnet_node_id: 2,
      delegate_stake_shares_to_swap: shares / 4n,
    })
    expect(chain.net.get('SwapQueueOrder')).toEqual([0])
    expect(chain.supply()).toBe(supply)
    const queuedAt = chain.block
    chain.goTo(queuedAt + 19)
    expect(chain.net.get('SwapQueueOrder')).toEqual([0])
    chain.next()
    expect(chain.net.get('SwapQueueOrder')).toEqual([])
    expect(chain.net.big('AccountNodeDelegateStakeShares', DELEGATOR, id, 2)).toBeGreaterThan(240n * TOKEN)
    chain.call(DELEGATOR, 'donate_node_delegate_stake', { subnet_id: id, subnet_node_id: 2, amount: TOKEN })
    chain.call(DELEGATOR, 'remove_delegate_stake', { subnet_id: id, shares_to_be_removed: shares / 2n })
    expect(chain.net.get<unknown[]>('StakeUnbondingLedger', DELEGATOR)).toHaveLength(1)
  })

  it('graduation and churn: queue → Idle → Included → Validator, as many at once as the churn limit', () => {
    const subnet = activeSubnet(4)
    const { chain, id } = subnet
    chain.call(OWNER, 'owner_update_churn_limit', { subnet_id: id, value: 2 })
    for (const i of [5, 6, 7]) {
      const events = chain.call(coldkey(i), 'register_subnet_node', nodeArgs(id, i))
      expect(named(events, 'SubnetNodeRegistered')).toMatchObject([
        { subnet_node_id: i, coldkey: coldkey(i) },
      ])
    }
    const registered = subnetEpoch(subnet)
    const classOf = (i: number): string => {
      const node = chain.net.find<SubnetNode>('SubnetNodesData', id, i)
      return node?.classification.node_class ?? 'queued'
    }
    const history: string[] = []
    for (let step = 0; step < 13; step++) {
      if (elected(subnet) !== undefined) {
        const scored = [1, 2, 3, 4, 5, 6, 7].filter((i) => ['Included', 'Validator'].includes(classOf(i)))
        const attestors = scored.filter((i) => classOf(i) === 'Validator')
        proposeAndAttest(
          subnet,
          attestors,
          scored.map((i) => [i, 1n]),
        )
      }
      nextStep(subnet)
      history.push(`${subnetEpoch(subnet) - registered} ${classOf(5)} ${classOf(6)} ${classOf(7)}`)
    }
    expect(history).toEqual([
      '1 queued queued queued',
      '2 queued queued queued',
      '3 queued queued queued',
      '4 queued queued queued',
      // Start epoch registered + 1, three queue epochs, strictly past: two leave, the churn limit holds the third.
      '5 Idle Idle queued',
      '6 Idle Idle Idle',
      // Two epochs counted idle; an epoch counts when the node was live at its proposal.
      '7 Included Included Idle',
      '8 Included Included Included',
      '9 Validator Validator Included',
      '10 Validator Validator Validator',
      '11 Validator Validator Validator',
      '12 Validator Validator Validator',
      '13 Validator Validator Validator',
    ])
    expect(chain.net.get('SubnetNodeElectionSlots', id)).toEqual([1, 2, 3, 4, 5, 6, 7])
  })

  it('queue wishes: prioritise and remove happen with a super-majority, immune nodes stay', () => {
    const subnet = activeSubnet(4)
    const { chain, id } = subnet
    elect(subnet)
    for (const i of [5, 6, 7]) chain.call(coldkey(i), 'register_subnet_node', nodeArgs(id, i))
    const all = [1, 2, 3, 4]
    const scores = all.map((i) => [i, 1n] as const)
    proposeAndAttest(subnet, all, scores, { prioritize_queue_node_id: 7, remove_queue_node_id: 5 })
    let events = nextStep(subnet)
    expect(named(events, 'QueuedNodePrioritized')).toEqual([{ subnet_id: id, subnet_node_id: 7 }])
    expect(named(events, 'QueuedNodeRemoved')).toEqual([])
    const queue = (): number[] => chain.net.get<SubnetNode[]>('SubnetNodeQueue', id).map((node) => node.id)
    expect(queue()).toEqual([7, 5, 6])
    chain.call(OWNER, 'owner_update_queue_immunity_epochs', { subnet_id: id, value: 0 })
    elect(subnet)
    proposeAndAttest(subnet, all, scores, { prioritize_queue_node_id: undefined, remove_queue_node_id: 5 })
    events = nextStep(subnet)
    expect(named(events, 'QueuedNodeRemoved')).toEqual([{ subnet_id: id, subnet_node_id: 5 }])
    expect(queue()).toEqual([7, 6])
    expect(chain.net.has('PeerIdSubnetNodeId', id, peerId(5))).toBe(false)
    expect(chain.net.has('MultiaddrSubnetNodeId', id, multiaddr(5))).toBe(false)
    // Its stake is still its hotkey's.
    chain.call(coldkey(5), 'remove_stake', {
      subnet_id: id,
      hotkey: hotkey(5),
      stake_to_be_removed: 100n * TOKEN,
    })
    expect(chain.net.has('HotkeyOwner', hotkey(5))).toBe(false)
  })

  it('pause, unpause, emergency set, ownership, removal by the owner', () => {
    const subnet = activeSubnet(4)
    const { chain, id } = subnet
    elect(subnet)
    chain.call(coldkey(5), 'register_subnet_node', nodeArgs(id, 5))
    const queuedStart = (): number =>
      chain.net.get<SubnetNode[]>('SubnetNodeQueue', id)[0]?.classification.start_epoch ?? 0
    const start = queuedStart()
    chain.call(OWNER, 'owner_pause_subnet', { subnet_id: id })
    chain.call(OWNER, 'owner_set_emergency_validator_set', { subnet_id: id, subnet_node_ids: [1, 2, 3, 3] })
    expect(chain.net.get('EmergencySubnetNodeElectionData', id)).toMatchObject({
      subnet_node_ids: [1, 2, 3],
      target_emergency_validators_epochs: 23,
    })
    chain.goTo(chain.block + 40)
    chain.call(OWNER, 'owner_unpause_subnet', { subnet_id: id })
    expect(queuedStart()).toBe(start + 3)
    for (let i = 0; i < 8; i++) {
      nextStep(subnet)
      const chosen = elected(subnet)
      if (chosen !== undefined) expect([1, 2, 3]).toContain(chosen)
    }
    expect(
      chain.error(OWNER, 'owner_update_absent_decrease_reputation_factor', {
        subnet_id: id,
        value: TOKEN / 5n,
      }),
    ).toBe('EmergencyValidatorsSet')
    chain.call(OWNER, 'owner_revert_emergency_validator_set', { subnet_id: id })
    chain.call(OWNER, 'transfer_subnet_ownership', { subnet_id: id, new_owner: coldkey(1) })
    expect(chain.error(coldkey(2), 'accept_subnet_ownership', { subnet_id: id })).toBe(
      'NotPendingSubnetOwner',
    )
    chain.call(coldkey(1), 'accept_subnet_ownership', { subnet_id: id })
    const supply = chain.supply()
    const events = chain.call(coldkey(1), 'owner_deactivate_subnet', { subnet_id: id })
    expect(named(events, 'SubnetDeactivated')).toEqual([{ subnet_id: id, reason: 'Owner' }])
    expect(chain.supply()).toBe(supply)
    for (const item of [
      'TotalSubnets',
      'TotalActiveSubnets',
      'TotalNodes',
      'TotalActiveNodes',
      'TotalElectableNodes',
    ])
      expect(`${item} ${chain.net.num(item)}`).toBe(`${item} 0`)
    // Stakers and delegates get theirs.
    chain.call(coldkey(2), 'remove_stake', {
      subnet_id: id,
      hotkey: hotkey(2),
      stake_to_be_removed: chain.net.big('AccountSubnetStake', hotkey(2), id),
    })
    chain.call(DELEGATOR, 'remove_delegate_stake', {
      subnet_id: id,
      shares_to_be_removed: chain.net.big('AccountSubnetDelegateStakeShares', DELEGATOR, id),
    })
    expect(chain.supply()).toBe(supply)
  })

  it('removal rules: enactment over, too few nodes, too little delegate stake, paused too long, low reputation', () => {
    const reason = (events: readonly ChainEvent[]): unknown =>
      (named(events, 'SubnetDeactivated')[0] as { reason?: unknown } | undefined)?.reason
    const removedWith = (set: (subnet: Subnet) => void, subnet = activeSubnet(4)): unknown => {
      set(subnet)
      return reason(subnet.chain.goTo(subnet.chain.block + 60))
    }
    const registering = (nodes: number): Subnet => {
      const chain = new TestChain({ endowed: endow(4) })
      chain.call(OWNER, 'register_subnet', { max_cost: TOKEN, subnet_data: subnetData() })
      for (let i = 1; i <= nodes; i++) chain.call(coldkey(i), 'register_subnet_node', nodeArgs(128_001, i))
      chain.net.put('SubnetRegistrationEpochs', [], 1)
      chain.net.put('SubnetEnactmentEpochs', [], 1)
      return { chain, id: 128_001, slot: 3, epochBlocks: 20 }
    }
    expect(removedWith(() => {}, registering(3))).toBe('EnactmentPeriod')
    expect(removedWith(() => {}, registering(2))).toBe('MinSubnetNodes')
    expect(removedWith(({ chain }) => chain.net.put('MinSubnetDelegateStakeFactor', [], TOKEN / 2n))).toBe(
      'MinSubnetDelegateStake',
    )
    expect(
      removedWith(({ chain, id }) => {
        chain.call(OWNER, 'owner_pause_subnet', { subnet_id: id })
        chain.net.put('MaxSubnetPauseEpochs', [], 0)
        chain.net.put('SubnetReputation', [id], TOKEN / 9n)
      }),
    ).toBe('PauseExpired')
    expect(removedWith(({ chain, id }) => chain.net.put('SubnetReputation', [id], TOKEN / 100n))).toBe(
      'MinReputation',
    )
    expect(
      removedWith(
        ({ chain, id }) => void chain.call(undefined, 'collective_remove_subnet', { subnet_id: id }),
      ),
    ).toBe(undefined)
  })

  it('the weakest of too many subnets is removed, on a removal epoch, and only then', () => {
    const subnet = activeSubnet(4)
    const { chain, id } = subnet
    chain.call(undefined, 'set_max_subnets', { value: 0 })
    chain.net.put('MinSubnetRemovalInterval', [], 0)
    const events = chain.goTo(200)
    expect(named(events, 'SubnetDeactivated')).toEqual([{ subnet_id: id, reason: 'MaxSubnets' }])
  })
})
