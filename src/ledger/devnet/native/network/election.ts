import type { EmergencySet } from './records.ts'
import type { NetworkState } from './state.ts'

export function isElected(net: NetworkState, subnetId: number, nodeId: number, subnetEpoch: number): boolean {
  return net.get('SubnetElectedValidator', subnetId, subnetEpoch) === nodeId
}

/** Makes a node electable. @returns false when it is already. */
export function addToElection(net: NetworkState, subnetId: number, nodeId: number): boolean {
  const slots = net.get<readonly number[]>('SubnetNodeElectionSlots', subnetId)
  if (slots.includes(nodeId)) return false
  net.put('SubnetNodeElectionSlots', [subnetId], [...slots, nodeId])
  net.put('NodeSlotIndex', [subnetId, nodeId], slots.length)
  net.count('TotalSubnetElectableNodes', [subnetId], 1)
  net.count('TotalElectableNodes', [], 1)
  return true
}

/** Takes a node out of the election; the last slot moves into its place. */
export function removeFromElection(net: NetworkState, subnetId: number, nodeId: number): void {
  const slots = [...net.get<readonly number[]>('SubnetNodeElectionSlots', subnetId)]
  const at = slots.indexOf(nodeId)
  const last = slots.at(-1)
  if (at < 0 || last === undefined) return
  slots[at] = last
  slots.pop()
  if (last !== nodeId) net.put('NodeSlotIndex', [subnetId, last], at)
  net.put('SubnetNodeElectionSlots', [subnetId], slots)
  net.drop('NodeSlotIndex', subnetId, nodeId)
  net.count('TotalSubnetElectableNodes', [subnetId], -1)
  net.count('TotalElectableNodes', [], -1)
}

/** Elects one node for the subnet epoch, uniformly from the election slots or from the emergency set while it lasts. */
export function elect(net: NetworkState, subnetId: number, subnetEpoch: number): void {
  if (net.has('SubnetElectedValidator', subnetId, subnetEpoch)) return
  const candidates = electable(net, subnetId, subnetEpoch)
  const nodeId = candidates[randomNumber(net) % Math.max(1, candidates.length)]
  if (nodeId !== undefined) net.put('SubnetElectedValidator', [subnetId, subnetEpoch], nodeId)
}

function electable(net: NetworkState, subnetId: number, subnetEpoch: number): readonly number[] {
  const emergency = net.get<EmergencySet | undefined>('EmergencySubnetNodeElectionData', subnetId)
  if (emergency !== undefined) {
    // Its last epoch is fixed when the subnet is unpaused; until then the chain takes 0 for it and drops the set at once.
    const last = emergency.max_emergency_validators_epoch
    const over =
      emergency.total_epochs > emergency.target_emergency_validators_epochs ||
      (last !== 0 && subnetEpoch > last)
    if (!over) return emergency.subnet_node_ids
    net.drop('EmergencySubnetNodeElectionData', subnetId)
  }
  return net.get<readonly number[]>('SubnetNodeElectionSlots', subnetId)
}

/** 32 random bits of this block. */
function randomNumber(net: NetworkState): number {
  const bytes = net.context.random(`/network election ${net.block}`)
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getUint32(0, true)
}
