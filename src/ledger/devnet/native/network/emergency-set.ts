import { subnetEpoch } from './epochs.ts'
import { atMost, percentMul, toFloat, U32_MAX } from './fixed-point.ts'
import { type EmergencySet, hasClass, type SubnetData, type SubnetNode } from './records.ts'
import type { Handlers, NetworkState } from './state.ts'
import { ensureOwner } from './subnets.ts'

/** Epochs after which a node that is always absent is below the least reputation: `ceil(ln min / ln(1 - factor)) + 1`. */
export function epochsToRemoval(minReputation: bigint, absentFactor: bigint): number {
  const steps = Math.ceil(Math.log(toFloat(minReputation)) / Math.log(1 - toFloat(absentFactor)))
  return Number.isNaN(steps) ? 1 : Math.min(U32_MAX, Math.max(0, steps) + 1)
}

/** How long an emergency set is meant to last: until absent nodes of the subnet are gone, as the mildest rules allow. */
function targetEpochs(net: NetworkState, subnetId: number): number {
  return Math.min(
    epochsToRemoval(net.big('MinMinSubnetNodeReputation'), net.big('MinNodeReputationFactor')),
    epochsToRemoval(
      net.big('MinSubnetNodeReputation', subnetId),
      net.big('AbsentDecreaseReputationFactor', subnetId),
    ),
  )
}

/** From unpausing on, the set lasts at most so long: target · multiplier. */
export function startEmergency(net: NetworkState, subnetId: number): void {
  const emergency = net.get<EmergencySet | undefined>('EmergencySubnetNodeElectionData', subnetId)
  if (emergency === undefined) return
  const epochs = percentMul(
    BigInt(emergency.target_emergency_validators_epochs),
    net.big('MaxEmergencyValidatorEpochsMultiplier'),
  )
  const last = atMost(BigInt(subnetEpoch(net, subnetId)) + epochs, BigInt(U32_MAX))
  net.put('EmergencySubnetNodeElectionData', [subnetId], {
    ...emergency,
    max_emergency_validators_epoch: Number(last),
  })
}

function setEmergency(net: NetworkState, subnetId: number, owner: string, wanted: readonly number[]): void {
  const subnet = net.get<SubnetData | undefined>('SubnetsData', subnetId)
  net.ensure(subnet?.state === 'Paused', 'SubnetMustBePaused')
  const epoch = subnetEpoch(net, subnetId)
  const subnet_node_ids = [...new Set(wanted)].filter((id) => {
    const node = net.find<SubnetNode>('SubnetNodesData', subnetId, id)
    return node !== undefined && hasClass(node, 'Validator', epoch)
  })
  net.ensure(subnet_node_ids.length >= net.num('MinSubnetNodes'), 'InvalidMinEmergencySubnetNodes')
  net.ensure(subnet_node_ids.length <= net.num('MaxEmergencySubnetNodes'), 'InvalidMaxEmergencySubnetNodes')
  const emergency: EmergencySet = {
    subnet_node_ids,
    target_emergency_validators_epochs: targetEpochs(net, subnetId),
    max_emergency_validators_epoch: 0,
    total_epochs: 0,
  }
  net.put('EmergencySubnetNodeElectionData', [subnetId], emergency)
  net.emit('SubnetForked', { subnet_id: subnetId, owner, subnet_node_ids })
}

export const emergencyCalls: Handlers = {
  owner_set_emergency_validator_set(net: NetworkState, args, who) {
    const { subnet_id, subnet_node_ids } = args as { subnet_id: number; subnet_node_ids: readonly number[] }
    ensureOwner(net, subnet_id, who)
    setEmergency(net, subnet_id, who, subnet_node_ids)
  },
  owner_revert_emergency_validator_set(net: NetworkState, args, who) {
    const { subnet_id } = args as { subnet_id: number }
    ensureOwner(net, subnet_id, who)
    net.drop('EmergencySubnetNodeElectionData', subnet_id)
    net.emit('SubnetForkRevert', { subnet_id, owner: who })
  },
}
