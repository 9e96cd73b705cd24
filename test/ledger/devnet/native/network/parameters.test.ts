import { describe, expect, it } from 'vitest'
import { collectiveCalls } from '../../../../../src/ledger/devnet/native/network/collective.ts'
import { consensusParameterCalls } from '../../../../../src/ledger/devnet/native/network/consensus-parameters.ts'
import { networkPallet } from '../../../../../src/ledger/devnet/native/network/network-pallet.ts'
import { parameterCalls } from '../../../../../src/ledger/devnet/native/network/parameters.ts'
import type { LedgerValue } from '../../../../../src/ledger/ledger.ts'
import { account, TestChain, text, TOKEN } from './chain.ts'
import { activeSubnet, coldkey, endow, OWNER } from './subnet.ts'

const pallet = networkPallet({ epochBlocks: 20 })
const argsOf = (call: string): Readonly<Record<string, string>> =>
  pallet.calls.find(({ name }) => name === call)?.args ?? {}

/** Values that the checks of each parameter let through, where the usual ones do not do. */
const SPECIAL: Readonly<Record<string, LedgerValue>> = {
  set_max_subnets: 5,
  set_max_min_delegate_stake_multiplier: 3n * TOKEN,
  set_max_emergency_validator_epochs_multiplier: 3n * TOKEN,
  set_overwatch_stake_weight_factor: TOKEN,
  set_min_attestation_percentage: (TOKEN * 7n) / 10n,
  set_super_majority_attestation_ratio: (TOKEN * 9n) / 10n,
  set_min_delegate_stake_deposit: 5000n,
  set_min_subnet_registration_epochs: 7,
}

describe('parameters of the network', () => {
  const calls = Object.keys({ ...parameterCalls, ...consensusParameterCalls })

  it.each(calls)('%s: root sets the item and says so; nobody else may', (call) => {
    const chain = new TestChain({ endowed: endow(0) })
    const types = Object.values(argsOf(call))
    const args: Record<string, LedgerValue> =
      types.length === 2
        ? { min: types[0] === 'u32' ? 5 : TOKEN / 5n, max: types[0] === 'u32' ? 50 : (TOKEN * 2n) / 5n }
        : { value: SPECIAL[call] ?? (types[0] === 'u32' ? 9 : types[0] === 'u64' ? 9n : TOKEN / 4n) }
    expect(chain.error(OWNER, call, args)).toBe('BadOrigin')
    const before = new Map(
      pallet.storage.map(({ name, keys }) => [name, keys.length === 0 ? chain.net.get(name) : undefined]),
    )
    const events = chain.call(undefined, call, args)
    const changed = pallet.storage
      .filter(({ name, keys }) => keys.length === 0 && chain.net.get(name) !== before.get(name))
      .map(({ name }) => chain.net.get<LedgerValue>(name))
    expect(changed).toEqual(Object.values(args))
    expect(events).toHaveLength(1)
    expect(events[0]?.name).toMatch(/^Set/)
    const { data } = events[0] ?? {}
    expect(types.length === 2 ? data : [data]).toEqual(Object.values(args))
  })

  it('what may not be set is refused by name', () => {
    const chain = new TestChain()
    const refused: readonly (readonly [string, Record<string, LedgerValue>, string])[] = [
      ['set_max_subnets', { value: 18 }, 'InvalidMaxSubnets'],
      ['set_max_bootnodes', { value: 257 }, 'InvalidMaxBootnodes'],
      ['set_max_subnet_bootnodes_access', { value: 257 }, 'InvalidMaxSubnetBootnodeAccess'],
      ['set_max_pause_epochs', { value: 0 }, 'InvalidMaxSubnetPauseEpochs'],
      [
        'set_delegate_stake_subnet_removal_interval',
        { value: 0 },
        'InvalidDelegateStakeSubnetRemovalInterval',
      ],
      ['set_churn_limits', { min: 2, max: 2 }, 'InvalidValues'],
      ['set_delegate_stake_percentages', { min: 1n, max: TOKEN + 1n }, 'InvalidPercent'],
      ['set_subnet_owner_percentage', { value: TOKEN / 2n + 1n }, 'InvalidPercent'],
      ['set_min_attestation_percentage', { value: TOKEN / 2n }, 'InvalidPercent'],
      ['set_super_majority_attestation_ratio', { value: TOKEN / 2n }, 'InvalidSuperMajorityAttestationRatio'],
      ['set_min_delegate_stake_deposit', { value: 999n }, 'InvalidMinDelegateStakeDeposit'],
      ['set_overwatch_epoch_length_multiplier', { value: 0 }, 'InvalidOverwatchEpochLengthMultiplier'],
      ['set_overwatch_commit_cutoff_percent', { value: TOKEN }, 'InvalidPercent'],
      ['set_min_max_subnet_node', { min: 0, max: 1 }, 'InvalidValues'],
      ['set_min_subnet_registration_epochs', { value: 10_000 }, 'InvalidMinSubnetRegistrationEpochs'],
      ['set_subnet_registration_epochs', { value: 1 }, 'InvalidSubnetRegistrationEpochs'],
      ['set_delegate_stake_cooldown_epochs', { value: 0 }, 'InvalidDelegateStakeCooldownEpochs'],
      ['set_node_delegate_stake_cooldown_epochs', { value: 0 }, 'InvalidNodeDelegateStakeCooldownEpochs'],
      ['set_min_stake_cooldown_epochs', { value: 0 }, 'InvalidStakeCooldownEpochs'],
      ['set_max_unbondings', { value: 257 }, 'InvalidMaxUnbondings'],
      ['set_maximum_hooks_weight', { value: 101 }, 'InvalidPerbillPercent'],
      ['set_validator_reward_k', { value: 0n }, 'InvalidValidatorRewardK'],
      ['set_attestor_reward_exponent', { value: 0n }, 'InvalidAttestorRewardExponent'],
      ['set_max_emergency_subnet_nodes', { value: 2 }, 'InvalidMaxEmergencySubnetNodes'],
      [
        'set_subnet_weight_factors',
        { value: { delegate_stake: TOKEN, node_count: 1n, net_flow: 0n } },
        'InvalidPercent',
      ],
    ]
    for (const [call, args, error] of refused)
      expect(`${call} ${chain.error(undefined, call, args)}`).toBe(`${call} ${error}`)
  })

  it('pause stops calls and hooks, unpause lets them go on', () => {
    const chain = new TestChain({ endowed: endow(1) })
    expect(chain.call(undefined, 'pause').map(({ name }) => name)).toEqual(['SetTxPause'])
    expect(chain.error(OWNER, 'claim_unbondings')).toBe('Paused')
    expect(chain.error(OWNER, 'remove_identity')).toBe('')
    chain.call(undefined, 'unpause')
    expect(chain.error(OWNER, 'claim_unbondings')).toBe('NoStakeUnbondingsOrCooldownNotMet')
    expect(Object.keys(collectiveCalls)).toContain('pause')
  })

  it('every call is implemented', () => {
    expect(() => networkPallet({ epochBlocks: 100 })).not.toThrow()
    expect(pallet.calls.filter(({ freeOnSuccess }) => freeOnSuccess).map(({ name }) => name)).toEqual([
      'propose_attestation',
      'attest',
      'set_overwatch_node_peer_id',
      'commit_overwatch_subnet_weights',
      'reveal_overwatch_subnet_weights',
    ])
  })
})

describe('settings of a subnet', () => {
  it('every owner_update sets its item, emits its event with the owner, and is refused to others', () => {
    const { chain, id } = activeSubnet(4)
    const settings: readonly (readonly [string, LedgerValue, string, string])[] = [
      ['churn_limit', 9, 'ChurnLimit', 'ChurnLimitUpdate'],
      ['churn_limit_multiplier', 2, 'ChurnLimitMultiplier', 'ChurnLimitMultiplierUpdate'],
      ['registration_queue_epochs', 5, 'SubnetNodeQueueEpochs', 'RegistrationQueueEpochsUpdate'],
      ['idle_classification_epochs', 5, 'IdleClassificationEpochs', 'IdleClassificationEpochsUpdate'],
      [
        'included_classification_epochs',
        5,
        'IncludedClassificationEpochs',
        'IncludedClassificationEpochsUpdate',
      ],
      ['queue_immunity_epochs', 7, 'QueueImmunityEpochs', 'QueueImmunityEpochsUpdate'],
      ['max_registered_nodes', 32, 'MaxRegisteredNodes', 'MaxRegisteredNodesUpdate'],
      [
        'target_node_registrations_per_epoch',
        8,
        'TargetNodeRegistrationsPerEpoch',
        'TargetNodeRegistrationsPerEpochUpdate',
      ],
      ['node_burn_rate_alpha', TOKEN / 3n, 'NodeBurnRateAlpha', 'NodeBurnRateAlphaUpdate'],
      ['min_subnet_node_reputation', TOKEN / 4n, 'MinSubnetNodeReputation', 'MinSubnetNodeReputationUpdate'],
      [
        'subnet_node_min_weight_decrease_reputation_threshold',
        TOKEN / 50n,
        'SubnetNodeMinWeightDecreaseReputationThreshold',
        'SubnetNodeMinWeightDecreaseReputationThresholdUpdate',
      ],
      [
        'delegate_stake_percentage',
        (TOKEN * 11n) / 100n,
        'SubnetDelegateStakeRewardsPercentage',
        'SubnetDelegateStakeRewardsPercentageUpdate',
      ],
      [
        'absent_decrease_reputation_factor',
        TOKEN / 5n,
        'AbsentDecreaseReputationFactor',
        'AbsentDecreaseReputationFactorUpdate',
      ],
      [
        'validator_non_consensus_decrease_reputation_factor',
        TOKEN / 5n,
        'ValidatorNonConsensusSubnetNodeReputationFactor',
        'ValidatorNonConsensusSubnetNodeReputationFactorUpdate',
      ],
    ]
    for (const [name, value, item, event] of settings) {
      const args = { subnet_id: id, value }
      expect(chain.error(coldkey(1), `owner_update_${name}`, args)).toBe('NotSubnetOwner')
      expect(
        chain.call(OWNER, `owner_update_${name}`, args).map(({ name: of, data }) => ({ of, data })),
      ).toEqual([{ of: event, data: { ...args, owner: OWNER } }])
      expect(chain.net.get(item, id)).toEqual(value)
    }
    for (const field of ['name', 'repo', 'description', 'misc']) {
      const value = text(`new ${field}`)
      const [event] = chain.call(OWNER, `owner_update_${field}`, { subnet_id: id, value })
      expect(event?.data).toMatchObject({ subnet_id: id, owner: OWNER, value })
      expect(chain.net.get<Record<string, LedgerValue>>('SubnetsData', id)[field]).toEqual(value)
    }
    expect(chain.net.get('SubnetName', text('new name'))).toBe(id)
    expect(chain.net.has('SubnetName', text('subnet 1'))).toBe(false)
    chain.call(OWNER, 'owner_update_min_max_stake', { subnet_id: id, min: 150n * TOKEN, max: 160n * TOKEN })
    expect(chain.net.big('SubnetMaxStakeBalance', id)).toBe(160n * TOKEN)
  })

  it('update_bootnodes: the owner and whom it lets', () => {
    const { chain, id } = activeSubnet(4)
    const add = [[new TextEncoder().encode(`Qm${'y'.repeat(44)}`), Uint8Array.of(0xa5, 3, 1, 9)]] as const
    expect(chain.error(account(3), 'update_bootnodes', { subnet_id: id, add, remove: [] })).toBe(
      'InvalidAccess',
    )
    chain.call(OWNER, 'owner_add_bootnode_access', { subnet_id: id, new_account: account(3) })
    chain.call(account(3), 'update_bootnodes', { subnet_id: id, add, remove: [] })
    expect(chain.net.get<unknown[]>('SubnetBootnodes', id)).toHaveLength(2)
    chain.call(OWNER, 'owner_remove_bootnode_access', { subnet_id: id, remove_account: account(3) })
    chain.call(OWNER, 'update_bootnodes', { subnet_id: id, add: [], remove: [add[0][0]] })
    expect(chain.net.get<unknown[]>('SubnetBootnodes', id)).toHaveLength(1)
  })
})
