import type { LedgerValue } from '../../../../../src/ledger/ledger.ts'
import { account, multiaddr, peerId, text, TOKEN } from './chain.ts'
import { coldkey, DELEGATOR, elected, hotkey, nodeArgs, OWNER, type Subnet, subnetData } from './subnet.ts'

type Args = Record<string, LedgerValue>
/** What stands, who calls what, with what of the ordinary arguments changed, after what change of storage. */
export type Case = readonly [
  error: string,
  who: (subnet: Subnet) => string | undefined,
  call: string,
  args: (subnet: Subnet) => Args,
  before?: (subnet: Subnet) => void,
]

const put =
  (item: string, value: LedgerValue, ...keys: readonly LedgerValue[]) =>
  ({ chain }: Subnet): void =>
    chain.net.put(item, keys, value)
const putOf =
  (item: string, value: LedgerValue) =>
  ({ chain, id }: Subnet): void =>
    chain.net.put(item, [id], value)
const owner = (): string => OWNER
const poor = (): string => account(99)
const delegator = (): string => DELEGATOR
const cold = (i: number) => (): string => coldkey(i)
const hot = (i: number) => (): string => hotkey(i)
/** A node that is not elected, and the one that is. */
const other = (subnet: Subnet): number => [1, 2, 3, 4].find((i) => i !== elected(subnet)) ?? 0
const chosen = (subnet: Subnet): number => elected(subnet) ?? 0
const register =
  (change: Args = {}, data: Args = {}) =>
  (): Args => ({ max_cost: 10n * TOKEN, subnet_data: { ...subnetData(2), ...data }, ...change })
const node =
  (change: Args = {}, i = 6) =>
  ({ id }: Subnet): Args =>
    nodeArgs(id, i, change)
const ofSubnet =
  (change: Args = {}) =>
  ({ id }: Subnet): Args => ({ subnet_id: id, ...change })
const ofNode =
  (i: number, change: Args = {}) =>
  ({ id }: Subnet): Args => ({ subnet_id: id, subnet_node_id: i, ...change })
const proposal =
  (change: Args = {}) =>
  ({ id }: Subnet): Args => ({
    subnet_id: id,
    data: [],
    prioritize_queue_node_id: undefined,
    remove_queue_node_id: undefined,
    args: undefined,
    attest_data: undefined,
    ...change,
  })
const attestation = ({ id }: Subnet): Args => ({ subnet_id: id, attest_data: undefined })
const submit = (subnet: Subnet): void =>
  void subnet.chain.call(hotkey(chosen(subnet)), 'propose_attestation', proposal()(subnet))
const stake =
  (i: number, amount: bigint) =>
  (subnet: Subnet): Args => ({
    subnet_id: subnet.id,
    subnet_node_id: i,
    hotkey: hotkey(i),
    stake_to_be_added: amount,
  })
const unstake =
  (amount: bigint) =>
  (subnet: Subnet): Args => ({
    subnet_id: subnet.id,
    hotkey: hotkey(other(subnet)),
    stake_to_be_removed: amount,
  })
const coldOther = (subnet: Subnet): string => coldkey(other(subnet))
const queued = ({ chain, id }: Subnet): void =>
  void chain.call(coldkey(5), 'register_subnet_node', nodeArgs(id, 5))
const peer = (i: number, address: Uint8Array | undefined = multiaddr(i)): Args => ({
  peer_id: peerId(i),
  multiaddr: address,
})
const registering = ({ chain, id }: Subnet): void => {
  const subnet = chain.net.get<Args>('SubnetsData', id)
  chain.net.put('SubnetsData', [id], { ...subnet, state: 'Registered' })
  chain.net.put('SubnetRegistrationEpoch', [id], Math.floor(chain.block / 20) - 1)
}
const paused = ({ chain, id }: Subnet): void =>
  void chain.call(OWNER, 'owner_pause_subnet', { subnet_id: id })
const delegateTo =
  (i: number) =>
  ({ chain, id }: Subnet): void =>
    void chain.call(DELEGATOR, 'add_to_node_delegate_stake', {
      subnet_id: id,
      subnet_node_id: i,
      node_delegate_stake_to_be_added: TOKEN,
    })

/** Every error of the calls of the life cycle, and how to get it in an active subnet of four nodes. */
export const ERROR_CASES: readonly Case[] = [
  ['Paused', owner, 'register_subnet', register(), put('TxPause', true)],
  ['SubnetNameExist', owner, 'register_subnet', register({}, { name: text('subnet 1') })],
  ['MaxSubnets', owner, 'register_subnet', register(), put('MaxSubnets', 0)],
  ['SubnetRepoExist', owner, 'register_subnet', register({}, { repo: text('repo 1') })],
  ['BootnodesEmpty', owner, 'register_subnet', register({}, { bootnodes: [] })],
  ['TooManyBootnodes', owner, 'register_subnet', register(), put('MaxBootnodes', 0)],
  [
    'MultiaddrInvalidProtocol',
    owner,
    'register_subnet',
    register({}, { bootnodes: [[peerId(1), Uint8Array.of(99)]] }),
  ],
  [
    'MultiaddrInvalidVarint',
    owner,
    'register_subnet',
    register({}, { bootnodes: [[peerId(1), Uint8Array.of(0x80)]] }),
  ],
  [
    'MultiaddrTruncated',
    owner,
    'register_subnet',
    register({}, { bootnodes: [[peerId(1), Uint8Array.of(4, 1)]] }),
  ],
  [
    'InvalidBootnodePeerId',
    owner,
    'register_subnet',
    register({}, { bootnodes: [[text('short'), multiaddr(1)]] }),
  ],
  ['InvalidSubnetMinStake', owner, 'register_subnet', register({}, { min_stake: 1n })],
  ['InvalidSubnetMaxStake', owner, 'register_subnet', register({}, { max_stake: 2000n * TOKEN })],
  ['InvalidSubnetStakeParameters', owner, 'register_subnet', register({}, { max_stake: 99n * TOKEN })],
  [
    'InvalidMinDelegateStakePercentage',
    owner,
    'register_subnet',
    register({}, { delegate_stake_percentage: TOKEN }),
  ],
  [
    'InvalidSubnetRegistrationInitialColdkeys',
    owner,
    'register_subnet',
    register({}, { initial_coldkeys: [] }),
  ],
  ['CostGreaterThanMaxCost', owner, 'register_subnet', register({ max_cost: 1n })],
  ['NotEnoughBalanceToRegisterSubnet', poor, 'register_subnet', register()],
  [
    'NoAvailableSlots',
    owner,
    'register_subnet',
    register(),
    put(
      'AssignedSlots',
      Array.from({ length: 17 }, (_, i) => i + 3),
    ),
  ],
  ['NotSubnetOwner', cold(1), 'activate_subnet', ofSubnet()],
  ['SubnetActivatedAlready', owner, 'activate_subnet', ofSubnet()],
  [
    'MinSubnetRegistrationEpochsNotMet',
    owner,
    'activate_subnet',
    ofSubnet(),
    (subnet) => {
      registering(subnet)
      put('MinSubnetRegistrationEpochs', 100)(subnet)
    },
  ],
  [
    'SubnetActivationConditionsNotMetYet',
    owner,
    'activate_subnet',
    ofSubnet(),
    (subnet) => {
      registering(subnet)
      put('MinSubnetNodes', 100)(subnet)
    },
  ],
  [
    'InvalidSubnetId',
    owner,
    'activate_subnet',
    ofSubnet(),
    ({ chain, id }) => chain.net.drop('SubnetsData', id),
  ],
  ['SubnetMustBeActive', owner, 'owner_pause_subnet', ofSubnet(), paused],
  [
    'SubnetPauseCooldownActive',
    owner,
    'owner_pause_subnet',
    ofSubnet(),
    put('SubnetPauseCooldownEpochs', 100),
  ],
  ['SubnetMustBePaused', owner, 'owner_unpause_subnet', ofSubnet()],
  ['NoPendingSubnetOwner', owner, 'accept_subnet_ownership', ofSubnet()],
  [
    'NotPendingSubnetOwner',
    owner,
    'accept_subnet_ownership',
    ofSubnet(),
    putOf('PendingSubnetOwner', coldkey(1)),
  ],
  ['SubnetMustBeRegistering', owner, 'owner_remove_initial_coldkeys', ofSubnet({ coldkeys: [] })],
  [
    'InvalidMinEmergencySubnetNodes',
    owner,
    'owner_set_emergency_validator_set',
    ofSubnet({ subnet_node_ids: [1, 99] }),
    paused,
  ],
  [
    'InvalidMaxEmergencySubnetNodes',
    owner,
    'owner_set_emergency_validator_set',
    ofSubnet({ subnet_node_ids: [1, 2, 3] }),
    (subnet) => {
      paused(subnet)
      put('MaxEmergencySubnetNodes', 2)(subnet)
    },
  ],
  ['InvalidAccess', cold(1), 'update_bootnodes', ofSubnet({ add: [], remove: [] })],
  ['InvalidMultiaddr', owner, 'update_bootnodes', ofSubnet({ add: [[peerId(1), text('x')]], remove: [] })],
  [
    'TooManyBootnodes',
    owner,
    'update_bootnodes',
    ofSubnet({ add: [[peerId(1), multiaddr(1)]], remove: [] }),
    put('MaxBootnodes', 1),
  ],
  [
    'InBootnodeAccessList',
    owner,
    'owner_add_bootnode_access',
    ofSubnet({ new_account: coldkey(1) }),
    putOf('SubnetBootnodeAccess', [coldkey(1)]),
  ],
  [
    'MaxSubnetBootnodeAccess',
    owner,
    'owner_add_bootnode_access',
    ofSubnet({ new_account: coldkey(1) }),
    put('MaxSubnetBootnodeAccess', 0),
  ],
  ['NotInAccessList', owner, 'owner_remove_bootnode_access', ofSubnet({ remove_account: coldkey(1) })],
  ['InvalidChurnLimit', owner, 'owner_update_churn_limit', ofSubnet({ value: 0 })],
  ['InvalidChurnLimitMultiplier', owner, 'owner_update_churn_limit_multiplier', ofSubnet({ value: 0 })],
  ['InvalidRegistrationQueueEpochs', owner, 'owner_update_registration_queue_epochs', ofSubnet({ value: 0 })],
  [
    'InvalidIdleClassificationEpochs',
    owner,
    'owner_update_idle_classification_epochs',
    ofSubnet({ value: 0 }),
  ],
  [
    'InvalidIncludedClassificationEpochs',
    owner,
    'owner_update_included_classification_epochs',
    ofSubnet({ value: 0 }),
  ],
  ['InvalidMaxRegisteredNodes', owner, 'owner_update_max_registered_nodes', ofSubnet({ value: 0 })],
  [
    'InvalidTargetNodeRegistrationsPerEpoch',
    owner,
    'owner_update_target_node_registrations_per_epoch',
    ofSubnet({ value: 65 }),
  ],
  ['InvalidPercent', owner, 'owner_update_node_burn_rate_alpha', ofSubnet({ value: TOKEN + 1n })],
  ['MinSubnetNodeReputation', owner, 'owner_update_min_subnet_node_reputation', ofSubnet({ value: TOKEN })],
  ['InvalidValues', owner, 'owner_update_min_max_stake', ofSubnet({ min: 2n, max: 1n })],
  ...(
    [
      ['absent_decrease', 'InvalidAbsentDecreaseReputationFactor'],
      ['included_increase', 'InvalidIncludedIncreaseReputationFactor'],
      ['below_min_weight_decrease', 'InvalidBelowMinWeightDecreaseReputationFactor'],
      ['non_attestor_decrease', 'InvalidNonAttestorDecreaseReputationFactor'],
      ['non_consensus_attestor_decrease', 'InvalidNonConsensusAttestorDecreaseReputationFactor'],
      ['validator_absent_decrease', 'InvalidNonValidatorAbsentDecreaseReputationFactor'],
      ['validator_non_consensus_decrease', 'InvalidValidatorNonConsensusSubnetNodeReputationFactor'],
    ] as const
  ).map(([name, error]): Case => [
    error,
    owner,
    `owner_update_${name}_reputation_factor`,
    ofSubnet({ value: TOKEN }),
  ]),
  [
    'EmergencyValidatorsSet',
    owner,
    'owner_update_absent_decrease_reputation_factor',
    ofSubnet({ value: TOKEN / 5n }),
    putOf('EmergencySubnetNodeElectionData', {
      subnet_node_ids: [2],
      target_emergency_validators_epochs: 1,
      max_emergency_validators_epoch: 1,
      total_epochs: 0,
    }),
  ],
  [
    'DelegateStakePercentageUpdateTooSoon',
    owner,
    'owner_update_delegate_stake_percentage',
    ofSubnet({ value: TOKEN / 10n }),
    put('SubnetDelegateStakeRewardsUpdatePeriod', 1000),
  ],
  [
    'DelegateStakePercentageAbsDiffTooLarge',
    owner,
    'owner_update_delegate_stake_percentage',
    ofSubnet({ value: TOKEN / 2n }),
  ],
  [
    'InvalidDelegateStakePercentage',
    owner,
    'owner_update_delegate_stake_percentage',
    ofSubnet({ value: TOKEN / 10n }),
    put('MinDelegateStakePercentage', TOKEN / 2n),
  ],

  ['InvalidSubnetId', cold(6), 'register_subnet_node', ({ id }) => nodeArgs(id + 1, 6)],
  ['ColdkeyMatchesHotkey', cold(6), 'register_subnet_node', node({ hotkey: coldkey(6) })],
  ['SubnetIsPaused', cold(6), 'register_subnet_node', node(), paused],
  ['HotkeyHasOwner', cold(6), 'register_subnet_node', node({ hotkey: hotkey(1) })],
  [
    'SubnetMustBeRegisteringOrActivated',
    cold(6),
    'register_subnet_node',
    node(),
    (subnet) => {
      registering(subnet)
      put('SubnetRegistrationEpochs', 0)(subnet)
    },
  ],
  [
    'ColdkeyRegistrationWhitelist',
    cold(6),
    'register_subnet_node',
    node(),
    putOf('SubnetRegistrationInitialColdkeys', [[coldkey(1), 1]]),
  ],
  [
    'MaxRegisteredNodes',
    cold(6),
    'register_subnet_node',
    node(),
    putOf('SubnetRegistrationInitialColdkeys', [[coldkey(6), 0]]),
  ],
  [
    'MaxRegisteredNodes',
    cold(6),
    'register_subnet_node',
    node(),
    (subnet) => {
      putOf('MaxRegisteredNodes', 0)(subnet)
      queued(subnet)
    },
  ],
  [
    'InvalidPeerId',
    cold(6),
    'register_subnet_node',
    node({ peer_info: { peer_id: text('x'), multiaddr: undefined } }),
  ],
  ['PeerIdExist', cold(6), 'register_subnet_node', node({ peer_info: peer(1, undefined) })],
  ['PeerIdExist', cold(6), 'register_subnet_node', node({ bootnode_peer_info: peer(6, undefined) })],
  ['MultiaddrExist', cold(6), 'register_subnet_node', node({ peer_info: peer(6, multiaddr(1)) })],
  [
    'SubnetNodeUniqueParamTaken',
    cold(6),
    'register_subnet_node',
    node({ unique: text('u') }),
    ({ chain, id }) => chain.net.put('UniqueParamSubnetNodeId', [id, text('u')], 1),
  ],
  [
    'DelegateAccountCannotBeHotkey',
    cold(6),
    'register_subnet_node',
    node({ delegate_account: { account_id: hotkey(6), rate: 1n } }),
  ],
  [
    'DelegateAccountCannotBeColdkey',
    cold(6),
    'register_subnet_node',
    node({ delegate_account: { account_id: coldkey(6), rate: 1n } }),
  ],
  [
    'InvalidDelegateAccountRate',
    cold(6),
    'register_subnet_node',
    node({ delegate_account: { account_id: OWNER, rate: 0n } }),
  ],
  [
    'MustUnstakeToRegister',
    cold(6),
    'register_subnet_node',
    node(),
    ({ chain, id }) => chain.net.put('AccountSubnetStake', [hotkey(6), id], 1n),
  ],
  [
    'HotkeyAlreadyRegisteredToColdkey',
    cold(6),
    'register_subnet_node',
    node(),
    put('ColdkeyHotkeys', [hotkey(6)], coldkey(6)),
  ],
  ['InvalidDelegateRewardRate', cold(6), 'register_subnet_node', node({ delegate_reward_rate: TOKEN + 1n })],
  ['MaxBurnAmountExceeded', cold(6), 'register_subnet_node', node({ max_burn_amount: 1n })],
  ['BalanceBurnError', poor, 'register_subnet_node', node()],
  ['InvalidAmount', cold(6), 'register_subnet_node', node({ stake_to_be_added: 0n })],
  ['MinStakeNotReached', cold(6), 'register_subnet_node', node({ stake_to_be_added: 1n })],
  ['MaxStakeReached', cold(6), 'register_subnet_node', node({ stake_to_be_added: 1001n * TOKEN })],
  [
    'MaxRegisteredNodes',
    cold(6),
    'register_subnet_node',
    node(),
    (subnet) => {
      registering(subnet)
      put('MaxSubnetNodes', 4)(subnet)
    },
  ],
  [
    'ElectionSlotInsertFail',
    cold(6),
    'register_subnet_node',
    node(),
    (subnet) => {
      registering(subnet)
      putOf('SubnetNodeElectionSlots', [1, 2, 3, 4, 5])(subnet)
    },
  ],
  ['NotKeyOwner', cold(6), 'remove_subnet_node', ofNode(1)],
  [
    'ElectedValidatorCannotRemove',
    (subnet) => coldkey(chosen(subnet)),
    'remove_subnet_node',
    (subnet) => ofNode(chosen(subnet))(subnet),
  ],
  ['NotKeyOwner', hot(1), 'update_peer_info', ofNode(1, { new_peer_info: peer(50) })],
  ['PeerIdExist', cold(1), 'update_client_peer_info', ofNode(1, { new_peer_info: peer(2) })],
  [
    'UniqueParameterTaken',
    cold(1),
    'update_unique',
    ofNode(1, { unique: text('u') }),
    ({ chain, id }) => chain.net.put('UniqueParamSubnetNodeId', [id, text('u')], 2),
  ],
  [
    'MaxRewardRateUpdates',
    cold(1),
    'update_node_delegate_reward_rate',
    ofNode(1, { new_delegate_reward_rate: 1n }),
    put('NodeRewardRateUpdatePeriod', 1000),
  ],
  [
    'NoDelegateRewardRateChange',
    cold(1),
    'update_node_delegate_reward_rate',
    ofNode(1, { new_delegate_reward_rate: 0n }),
  ],
  [
    'InvalidDelegateRewardRate',
    cold(1),
    'update_node_delegate_reward_rate',
    ofNode(1, { new_delegate_reward_rate: TOKEN }),
  ],
  [
    'SurpassesMaxRewardRateDecrease',
    cold(1),
    'update_node_delegate_reward_rate',
    ofNode(1, { new_delegate_reward_rate: 1n }),
    ({ chain, id }) =>
      void chain.call(coldkey(1), 'update_node_delegate_reward_rate', {
        subnet_id: id,
        subnet_node_id: 1,
        new_delegate_reward_rate: TOKEN / 2n,
      }),
  ],
  [
    'InvalidDelegateAccountParameters',
    cold(1),
    'update_delegate_account',
    ofNode(1, { delegate_account_id: undefined, delegate_rate: undefined }),
  ],
  [
    'DelegateAccountIdIsNone',
    cold(1),
    'update_delegate_account',
    ofNode(1, { delegate_account_id: undefined, delegate_rate: 1n }),
  ],
  [
    'DelegateAccountRateIsNone',
    cold(1),
    'update_delegate_account',
    ofNode(1, { delegate_account_id: OWNER, delegate_rate: undefined }),
  ],
  ['InvalidSubnetNodeId', cold(1), 'transfer_delegate_account', ofNode(99, { delegate_account_id: OWNER })],
  ['NoDelegateAccountSet', cold(1), 'transfer_delegate_account', ofNode(1, { delegate_account_id: OWNER })],
  [
    'NotDelegateAccountOwner',
    cold(1),
    'transfer_delegate_account',
    ofNode(1, { delegate_account_id: OWNER }),
    ({ chain, id }) =>
      void chain.call(coldkey(1), 'update_delegate_account', {
        subnet_id: id,
        subnet_node_id: 1,
        delegate_account_id: OWNER,
        delegate_rate: 1n,
      }),
  ],

  ['InvalidSubnetId', cold(1), 'add_stake', (subnet) => ({ ...stake(1, 1n)(subnet), subnet_id: 1 })],
  ['NotKeyOwner', cold(2), 'add_stake', stake(1, TOKEN)],
  ['InvalidAmount', cold(1), 'add_stake', stake(1, 0n)],
  ['MaxStakeReached', cold(1), 'add_stake', stake(1, 1000n * TOKEN)],
  [
    'NotEnoughBalanceToStake',
    cold(1),
    'add_stake',
    stake(1, 1n + 10_000n * TOKEN),
    ({ chain, id }) => chain.net.put('SubnetMaxStakeBalance', [id], 10n ** 30n),
  ],
  [
    'BalanceWithdrawalError',
    cold(1),
    'add_stake',
    (subnet) => stake(1, subnet.chain.free(coldkey(1)))(subnet),
    ({ chain, id }) => chain.net.put('SubnetMaxStakeBalance', [id], 10n ** 30n),
  ],
  [
    'TxRateLimitExceeded',
    cold(1),
    'add_stake',
    stake(1, TOKEN),
    (subnet) => {
      put('TxRateLimit', 100)(subnet)
      put('LastTxBlock', subnet.chain.block, coldkey(1))(subnet)
    },
  ],
  ['NotKeyOwner', cold(7), 'remove_stake', unstake(1n)],
  ['AmountZero', coldOther, 'remove_stake', unstake(0n)],
  ['NotEnoughStakeToWithdraw', coldOther, 'remove_stake', unstake(10n ** 30n)],
  ['MinStakeNotReached', coldOther, 'remove_stake', unstake(50n * TOKEN)],
  ['MinActiveNodeStakeEpochs', coldOther, 'remove_stake', unstake(1n), put('MinActiveNodeStakeEpochs', 1000)],
  [
    'ElectedValidatorCannotUnstake',
    (subnet) => coldkey(chosen(subnet)),
    'remove_stake',
    (subnet) => ({ subnet_id: subnet.id, hotkey: hotkey(chosen(subnet)), stake_to_be_removed: 1n }),
  ],
  [
    'MaxUnlockingsReached',
    delegator,
    'remove_delegate_stake',
    ofSubnet({ shares_to_be_removed: 10n ** 10n }),
    put('MaxUnbondings', 0),
  ],
  ['NoStakeUnbondingsOrCooldownNotMet', owner, 'claim_unbondings', () => ({})],
  ['NotEnoughStakeToWithdraw', owner, 'remove_delegate_balance', () => ({ amount_to_remove: 1n })],

  [
    'MinDelegateStakeDepositNotReached',
    delegator,
    'add_to_delegate_stake',
    ofSubnet({ stake_to_be_added: 999n }),
  ],
  [
    'NotEnoughBalanceToStake',
    delegator,
    'add_to_delegate_stake',
    ofSubnet({ stake_to_be_added: 10n ** 30n }),
  ],
  [
    'CouldNotConvertToShares',
    delegator,
    'add_to_delegate_stake',
    ofSubnet({ stake_to_be_added: 1000n }),
    putOf('TotalSubnetDelegateStakeBalance', 10n ** 36n),
  ],
  ['SharesZero', delegator, 'remove_delegate_stake', ofSubnet({ shares_to_be_removed: 0n })],
  ['NotEnoughStakeToWithdraw', owner, 'remove_delegate_stake', ofSubnet({ shares_to_be_removed: 1n })],
  [
    'TransferToSelfNotAllowed',
    delegator,
    'transfer_delegate_stake',
    ofSubnet({ to_account_id: DELEGATOR, delegate_stake_shares_to_transfer: 1n }),
  ],
  [
    'MinDelegateStakeDepositNotReached',
    delegator,
    'transfer_delegate_stake',
    ofSubnet({ to_account_id: OWNER, delegate_stake_shares_to_transfer: 1n }),
  ],
  ['MinDelegateStake', delegator, 'donate_delegate_stake', ofSubnet({ amount: 1n })],
  ['NotEnoughBalance', delegator, 'donate_delegate_stake', ofSubnet({ amount: 10n ** 30n })],
  [
    'InvalidSubnetNodeId',
    delegator,
    'add_to_node_delegate_stake',
    ofNode(99, { node_delegate_stake_to_be_added: TOKEN }),
  ],
  [
    'MinNodeDelegateStakeDepositNotReached',
    delegator,
    'add_to_node_delegate_stake',
    ofNode(1, { node_delegate_stake_to_be_added: 1n }),
  ],
  [
    'CouldNotConvertToBalance',
    delegator,
    'transfer_node_delegate_stake',
    ofNode(1, { to_account_id: OWNER, node_delegate_stake_shares_to_transfer: 1n }),
    delegateTo(1),
  ],
  [
    'MaxUnlockingsReached',
    delegator,
    'swap_delegate_stake',
    ({ id }) => ({ from_subnet_id: id, to_subnet_id: id, delegate_stake_shares_to_swap: 10n ** 10n }),
    put(
      'SwapQueueOrder',
      Array.from({ length: 1000 }, (_, i) => i),
    ),
  ],
  [
    'SwapCallNotFound',
    delegator,
    'update_swap_queue',
    ({ id }) => ({
      id: 7,
      new_call: {
        type: 'SwapToSubnetDelegateStake',
        value: { account_id: DELEGATOR, to_subnet_id: id, balance: 0n },
      },
    }),
  ],

  [
    'SubnetEpochDataIsNone',
    hot(1),
    'propose_attestation',
    (subnet) => proposal({ subnet_id: subnet.id + 1 })(subnet),
  ],
  [
    'NoElectedValidator',
    hot(1),
    'propose_attestation',
    proposal(),
    ({ chain, id }) => chain.net.dropAll('SubnetElectedValidator', id),
  ],
  ['InvalidValidator', (subnet) => hotkey(other(subnet)), 'propose_attestation', proposal()],
  [
    'SubnetRewardsAlreadySubmitted',
    (subnet) => hotkey(chosen(subnet)),
    'propose_attestation',
    proposal(),
    submit,
  ],
  [
    'ScoreOverflow',
    (subnet) => hotkey(chosen(subnet)),
    'propose_attestation',
    proposal({
      data: [
        { subnet_node_id: 1, score: (1n << 128n) - 1n },
        { subnet_node_id: 2, score: 1n },
      ],
    }),
  ],
  ...['args', 'attest_data'].map((field): Case => [
    'Other',
    (subnet) => hotkey(chosen(subnet)),
    'propose_attestation',
    proposal({ [field]: new Uint8Array(4097) }),
  ]),
  [
    'Other',
    (subnet) => hotkey(other(subnet)),
    'attest',
    (subnet) => ({ ...attestation(subnet), attest_data: new Uint8Array(4097) }),
    submit,
  ],
  ['InvalidHotkeySubnetNodeId', cold(1), 'attest', attestation],
  ['InvalidSubnetNodeId', hot(5), 'attest', attestation, queued],
  [
    'InvalidSubnetNodeClassification',
    hot(1),
    'attest',
    attestation,
    ({ chain, id }) => {
      const live = chain.net.get<Args>('SubnetNodesData', id, 1)
      chain.net.put('SubnetNodesData', [id, 1], {
        ...live,
        classification: { node_class: 'Included', start_epoch: 0 },
      })
    },
  ],
  [
    'InvalidEmergencySubnetNodeId',
    hot(1),
    'attest',
    attestation,
    putOf('EmergencySubnetNodeElectionData', {
      subnet_node_ids: [2],
      target_emergency_validators_epochs: 1,
      max_emergency_validators_epoch: 1,
      total_epochs: 0,
    }),
  ],
  ['InvalidSubnetConsensusSubmission', hot(1), 'attest', attestation],
  ['AlreadyAttested', (subnet) => hotkey(chosen(subnet)), 'attest', attestation, submit],

  ['NotKeyOwner', cold(1), 'update_coldkey', () => ({ hotkey: hotkey(2), new_coldkey: OWNER })],
  ['ColdkeyMatchesHotkey', cold(1), 'update_coldkey', () => ({ hotkey: hotkey(1), new_coldkey: hotkey(1) })],
  ['HotkeyHasOwner', cold(1), 'update_hotkey', () => ({ old_hotkey: hotkey(1), new_hotkey: hotkey(2) })],
  [
    'HotkeyAlreadyRegisteredToColdkey',
    cold(1),
    'update_hotkey',
    () => ({ old_hotkey: hotkey(1), new_hotkey: hotkey(9) }),
    put('ColdkeyHotkeys', [hotkey(1), hotkey(9)], coldkey(1)),
  ],
  [
    'OldHotkeyNotRegistered',
    cold(1),
    'update_hotkey',
    () => ({ old_hotkey: hotkey(1), new_hotkey: hotkey(9) }),
    put('ColdkeyHotkeys', [], coldkey(1)),
  ],
  ['NotKeyOwner', cold(1), 'register_or_update_identity', () => identity(hotkey(2))],
  [
    'IdentityFieldEmpty',
    cold(1),
    'register_or_update_identity',
    () => identity(hotkey(1), { url: new Uint8Array() }),
  ],
  [
    'IdentityTaken',
    cold(2),
    'register_or_update_identity',
    () => identity(hotkey(2)),
    ({ chain }) => void chain.call(coldkey(1), 'register_or_update_identity', identity(hotkey(1))),
  ],
  ['Other', cold(1), 'register_or_update_identity', () => identity(hotkey(1), { x: new Uint8Array(256) })],
  ['BadOrigin', cold(1), 'set_max_subnets', () => ({ value: 1 })],
  ['BadOrigin', () => undefined, 'claim_unbondings', () => ({})],
]

function identity(hot: string, change: Args = {}): Args {
  const names = [
    'name',
    'url',
    'image',
    'discord',
    'x',
    'telegram',
    'github',
    'hugging_face',
    'description',
    'misc',
  ]
  return { hotkey: hot, ...Object.fromEntries(names.map((name) => [name, text(name)])), ...change }
}
