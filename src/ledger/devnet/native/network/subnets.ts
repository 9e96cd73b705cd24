import { tokenFailure } from '../dispatch-error.ts'
import { ensureFunds } from './balances.ts'
import {
  atLeast,
  atMost,
  less,
  ONE,
  percentDiv,
  percentMul,
  plus,
  toFloat,
  truncate,
  U32_MAX,
} from './fixed-point.ts'
import { isPeerId, multiaddrError } from './multiaddr-check.ts'
import type { RegistrationSubnetData, SubnetData } from './records.ts'
import { DESIGNATED_SLOTS, type Handlers, type NetworkState, TREASURY } from './state.ts'
import { removeSubnet } from './subnet-removal.ts'
import { activationObstacle, registrationPhase } from './subnet-rules.ts'

export interface RegistrationCost {
  readonly last: bigint
  readonly min: bigint
  /** Blocks since the last registration. */
  readonly blocks: number
  readonly decayBlocks: number
  /** 1e18 = 1. */
  readonly alpha: bigint
}

/** `min + (last - min) · ((decay - blocks) / decay)^alpha`, the power in f64; min once the decay is over. */
export function registrationCost({ last, min, blocks, decayBlocks, alpha }: RegistrationCost): bigint {
  if (decayBlocks === 0 || last <= min) return atLeast(last, min)
  if (blocks >= decayBlocks) return min
  const remaining = percentDiv(BigInt(decayBlocks - blocks), BigInt(decayBlocks))
  const factor = toFloat(remaining) ** toFloat(alpha)
  return atLeast(plus(min, truncate(Number(less(last, min)) * factor)), min)
}

/** What registering a subnet costs in this block. */
export function currentRegistrationCost(net: NetworkState): bigint {
  return registrationCost({
    last: net.big('LastRegistrationCost'),
    min: net.big('MinRegistrationCost'),
    blocks: Math.max(0, net.block - net.num('LastSubnetRegistrationBlock')),
    decayBlocks: net.num('RegistrationCostDecayBlocks'),
    alpha: net.big('RegistrationCostAlpha'),
  })
}

function register(net: NetworkState, owner: string, maxCost: bigint, data: RegistrationSubnetData): void {
  checkRegistration(net, data)
  const cost = currentRegistrationCost(net)
  net.ensure(maxCost >= cost, 'CostGreaterThanMaxCost')
  net.put('LastRegistrationCost', [], percentMul(cost, net.big('NewRegistrationCostMultiplier')))
  net.put('LastSubnetRegistrationBlock', [], net.block)
  ensureFunds(net, owner, cost, 'NotEnoughBalanceToRegisterSubnet')
  if (cost > 0n && !net.context.balances.transfer(owner, TREASURY, cost)) tokenFailure('NotExpendable')
  const subnetId = net.count('TotalSubnetUids', [], 1)
  const friendly = assignSlot(net, subnetId) - DESIGNATED_SLOTS + 1
  net.put('SubnetIdFriendlyUid', [subnetId], friendly)
  net.put('FriendlyUidSubnetId', [friendly], subnetId)
  const { name, repo, description, misc } = data
  const subnet: SubnetData = {
    id: subnetId,
    friendly_id: friendly,
    name,
    repo,
    description,
    misc,
    state: 'Registered',
    start_epoch: U32_MAX,
  }
  net.put('SubnetsData', [subnetId], subnet)
  net.put('SubnetOwner', [subnetId], owner)
  net.put('SubnetMinStakeBalance', [subnetId], data.min_stake)
  net.put('SubnetMaxStakeBalance', [subnetId], data.max_stake)
  net.put('SubnetDelegateStakeRewardsPercentage', [subnetId], data.delegate_stake_percentage)
  net.put('SubnetRegistrationInitialColdkeys', [subnetId], data.initial_coldkeys)
  net.put('SubnetBootnodes', [subnetId], data.bootnodes)
  net.put('SubnetName', [name], subnetId)
  net.put('SubnetRepo', [repo], subnetId)
  net.put('SubnetRegistrationEpoch', [subnetId], net.epoch)
  net.count('TotalSubnets', [], 1)
  net.emit('SubnetRegistered', { owner, name, subnet_id: subnetId })
}

function checkRegistration(net: NetworkState, data: RegistrationSubnetData): void {
  net.ensure(!net.has('SubnetName', data.name), 'SubnetNameExist')
  net.ensure(net.entries('SubnetsData').length <= net.num('MaxSubnets'), 'MaxSubnets')
  net.ensure(!net.has('SubnetRepo', data.repo), 'SubnetRepoExist')
  net.ensure(data.bootnodes.length > 0, 'BootnodesEmpty')
  net.ensure(data.bootnodes.length <= net.num('MaxBootnodes'), 'TooManyBootnodes')
  for (const [peerId, multiaddr] of data.bootnodes) {
    const error = multiaddrError(multiaddr)
    if (error !== undefined) net.fail(error)
    net.ensure(isPeerId(peerId), 'InvalidBootnodePeerId')
  }
  const { min_stake: min, max_stake: max, delegate_stake_percentage: share } = data
  net.ensure(
    min >= net.big('MinSubnetMinStake') && min <= net.big('MaxSubnetMinStake'),
    'InvalidSubnetMinStake',
  )
  net.ensure(max <= net.big('NetworkMaxStakeBalance'), 'InvalidSubnetMaxStake')
  net.ensure(min <= max, 'InvalidSubnetStakeParameters')
  const most = atMost(net.big('MaxDelegateStakePercentage'), ONE)
  net.ensure(
    share >= net.big('MinDelegateStakePercentage') && share <= most,
    'InvalidMinDelegateStakePercentage',
  )
  net.ensure(
    data.initial_coldkeys.length >= net.num('MinSubnetNodes') &&
      data.initial_coldkeys.every(([, quota]) => quota >= 1),
    'InvalidSubnetRegistrationInitialColdkeys',
  )
}

/** Gives the subnet the lowest free slot. */
function assignSlot(net: NetworkState, subnetId: number): number {
  const assigned = net.get<readonly number[]>('AssignedSlots')
  let slot = DESIGNATED_SLOTS
  while (assigned.includes(slot)) slot++
  net.ensure(slot < net.epochBlocks, 'NoAvailableSlots')
  net.put(
    'AssignedSlots',
    [],
    [...assigned, slot].sort((a, b) => a - b),
  )
  net.put('SubnetSlot', [subnetId], slot)
  net.put('SlotAssignment', [slot], subnetId)
  return slot
}

/** Activates, or removes the subnet when its time is over. */
function activate(net: NetworkState, subnetId: number): void {
  const subnet = net.get<SubnetData | undefined>('SubnetsData', subnetId)
  net.ensure(subnet !== undefined, 'InvalidSubnetId')
  net.ensure(subnet.state === 'Registered', 'SubnetActivatedAlready')
  const registered = net.get<number | undefined>('SubnetRegistrationEpoch', subnetId)
  net.ensure(
    registered !== undefined && registered + net.num('MinSubnetRegistrationEpochs') <= net.epoch,
    'MinSubnetRegistrationEpochsNotMet',
  )
  const phase = registrationPhase(net, subnetId, subnet)
  if (phase === 'over' || phase === 'none') {
    removeSubnet(net, subnetId, 'EnactmentPeriod')
    return
  }
  const obstacle = activationObstacle(net, subnetId)
  if (obstacle !== undefined) {
    net.ensure(phase === 'enactment', 'SubnetActivationConditionsNotMetYet')
    removeSubnet(net, subnetId, obstacle)
    return
  }
  net.put('SubnetsData', [subnetId], { ...subnet, state: 'Active', start_epoch: net.epoch + 1 })
  net.count('TotalActiveSubnets', [], 1)
  for (const item of ['SubnetRegistrationEpoch', 'SubnetRegistrationInitialColdkeys', 'InitialColdkeyData'])
    net.drop(item, subnetId)
  net.put('LastSubnetDelegateStakeRewardsUpdate', [subnetId], net.block)
  net.put('PreviousSubnetPauseEpoch', [subnetId], net.epoch)
  net.put('PrevSubnetActivationEpoch', [], net.epoch)
  net.emit('SubnetActivated', { subnet_id: subnetId })
}

/** Ends the call unless `who` owns the subnet. */
export function ensureOwner(net: NetworkState, subnetId: number, who: string): void {
  net.ensure(net.get('SubnetOwner', subnetId) === who, 'NotSubnetOwner')
}

export const subnetCalls: Handlers = {
  register_subnet(net: NetworkState, args, who) {
    const { max_cost, subnet_data } = args as { max_cost: bigint; subnet_data: RegistrationSubnetData }
    register(net, who, max_cost, subnet_data)
  },
  activate_subnet(net: NetworkState, args, who) {
    const { subnet_id } = args as { subnet_id: number }
    ensureOwner(net, subnet_id, who)
    activate(net, subnet_id)
  },
}
