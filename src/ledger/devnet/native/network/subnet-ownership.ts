import { startEmergency } from './emergency-set.ts'
import { ensureLength, MAX_VECTOR } from './bounds.ts'
import { isPeerId, multiaddrError } from './multiaddr-check.ts'
import { changeNode } from './node-store.ts'
import { contains, type OrderedMap, withEntry, withoutKey, withoutValue, withValue } from './ordered-map.ts'
import type { SubnetData, SubnetNode } from './records.ts'
import type { Handlers, NetworkState } from './state.ts'
import { removeSubnet } from './subnet-removal.ts'
import { ensureOwner } from './subnets.ts'

type Bootnodes = OrderedMap<Uint8Array, Uint8Array>
type Coldkeys = OrderedMap<string, number>

function pause(net: NetworkState, subnetId: number, owner: string): void {
  const subnet = net.get<SubnetData | undefined>('SubnetsData', subnetId)
  net.ensure(subnet?.state === 'Active', 'SubnetMustBeActive')
  const free = net.num('PreviousSubnetPauseEpoch', subnetId) + net.num('SubnetPauseCooldownEpochs')
  net.ensure(free <= net.epoch, 'SubnetPauseCooldownActive')
  net.put('SubnetsData', [subnetId], { ...subnet, state: 'Paused', start_epoch: net.epoch })
  net.emit('SubnetPaused', { subnet_id: subnetId, owner })
}

/** Queued nodes of this subnet start later by as long as it was paused; the chain shifts those of all subnets. */
function unpause(net: NetworkState, subnetId: number, owner: string): void {
  const subnet = net.get<SubnetData | undefined>('SubnetsData', subnetId)
  net.ensure(subnet?.state === 'Paused', 'SubnetMustBePaused')
  const delta = Math.max(0, net.epoch - subnet.start_epoch) + 1
  for (const { value } of net.entries<SubnetNode>('RegisteredSubnetNodesData', subnetId)) {
    const { node_class, start_epoch } = value.classification
    const classification = { node_class, start_epoch: start_epoch + delta }
    changeNode(net, subnetId, value.id, (node) => ({ ...node, classification }))
  }
  net.put('SubnetsData', [subnetId], { ...subnet, state: 'Active', start_epoch: net.epoch + 1 })
  net.put('PreviousSubnetPauseEpoch', [subnetId], net.epoch)
  startEmergency(net, subnetId)
  net.emit('SubnetUnpaused', { subnet_id: subnetId, owner })
}

function updateBootnodes(
  net: NetworkState,
  subnetId: number,
  who: string,
  added: Bootnodes,
  removed: readonly Uint8Array[],
): void {
  net.ensure(net.has('SubnetsData', subnetId), 'InvalidSubnetId')
  const allowed =
    net.get('SubnetOwner', subnetId) === who ||
    contains(net.get<readonly string[]>('SubnetBootnodeAccess', subnetId), who)
  net.ensure(allowed, 'InvalidAccess')
  let bootnodes = net.get<Bootnodes>('SubnetBootnodes', subnetId)
  for (const peerId of removed) bootnodes = withoutKey(bootnodes, peerId)
  net.ensure(added.length <= net.num('MaxBootnodes'), 'TooManyBootnodes')
  for (const [peerId, multiaddr] of added) {
    ensureLength('multiaddr', multiaddr, MAX_VECTOR)
    net.ensure(multiaddrError(multiaddr) === undefined, 'InvalidMultiaddr')
    net.ensure(isPeerId(peerId), 'InvalidBootnodePeerId')
    bootnodes = withEntry(bootnodes, peerId, multiaddr)
  }
  net.ensure(bootnodes.length <= net.num('MaxBootnodes'), 'TooManyBootnodes')
  net.put('SubnetBootnodes', [subnetId], bootnodes)
  net.emit('BootnodesUpdated', { subnet_id: subnetId, added, removed })
}

/** The coldkeys that may register before activation. Ends the call unless the subnet is registering. */
function initialColdkeys(net: NetworkState, subnetId: number): Coldkeys | undefined {
  const subnet = net.get<SubnetData | undefined>('SubnetsData', subnetId)
  net.ensure(subnet?.state === 'Registered', 'SubnetMustBeRegistering')
  return net.get<Coldkeys | undefined>('SubnetRegistrationInitialColdkeys', subnetId)
}

export const subnetOwnershipCalls: Handlers = {
  owner_pause_subnet(net: NetworkState, args, who) {
    const { subnet_id } = args as { subnet_id: number }
    ensureOwner(net, subnet_id, who)
    pause(net, subnet_id, who)
  },
  owner_unpause_subnet(net: NetworkState, args, who) {
    const { subnet_id } = args as { subnet_id: number }
    ensureOwner(net, subnet_id, who)
    unpause(net, subnet_id, who)
  },
  owner_deactivate_subnet(net: NetworkState, args, who) {
    const { subnet_id } = args as { subnet_id: number }
    ensureOwner(net, subnet_id, who)
    net.ensure(net.has('SubnetsData', subnet_id), 'InvalidSubnetId')
    removeSubnet(net, subnet_id, 'Owner')
  },
  transfer_subnet_ownership(net: NetworkState, args, who) {
    const { subnet_id, new_owner } = args as { subnet_id: number; new_owner: string }
    ensureOwner(net, subnet_id, who)
    net.put('PendingSubnetOwner', [subnet_id], new_owner)
    net.emit('TransferPendingSubnetOwner', { subnet_id, owner: who, new_owner })
  },
  accept_subnet_ownership(net: NetworkState, args, who) {
    const { subnet_id } = args as { subnet_id: number }
    const pending = net.get<string | undefined>('PendingSubnetOwner', subnet_id)
    net.ensure(pending !== undefined, 'NoPendingSubnetOwner')
    net.ensure(pending === who, 'NotPendingSubnetOwner')
    net.ensure(net.has('SubnetOwner', subnet_id), 'InvalidSubnetId')
    net.put('SubnetOwner', [subnet_id], who)
    net.drop('PendingSubnetOwner', subnet_id)
    net.emit('AcceptPendingSubnetOwner', { subnet_id, new_owner: who })
  },
  owner_add_or_update_initial_coldkeys(net: NetworkState, args, who) {
    const { subnet_id, coldkeys } = args as { subnet_id: number; coldkeys: Coldkeys }
    ensureOwner(net, subnet_id, who)
    let allowed = initialColdkeys(net, subnet_id) ?? []
    net.ensure(
      coldkeys.every(([, quota]) => quota >= 1),
      'InvalidSubnetRegistrationInitialColdkeys',
    )
    for (const [coldkey, quota] of coldkeys) allowed = withEntry(allowed, coldkey, quota)
    net.put('SubnetRegistrationInitialColdkeys', [subnet_id], allowed)
    net.emit('AddSubnetRegistrationInitialColdkeys', { subnet_id, owner: who, coldkeys })
  },
  owner_remove_initial_coldkeys(net: NetworkState, args, who) {
    const { subnet_id, coldkeys } = args as { subnet_id: number; coldkeys: readonly string[] }
    ensureOwner(net, subnet_id, who)
    const left = (initialColdkeys(net, subnet_id) ?? []).filter(([coldkey]) => !contains(coldkeys, coldkey))
    if (left.length === 0) net.drop('SubnetRegistrationInitialColdkeys', subnet_id)
    else net.put('SubnetRegistrationInitialColdkeys', [subnet_id], left)
    net.emit('RemoveSubnetRegistrationInitialColdkeys', { subnet_id, owner: who, coldkeys })
  },
  owner_add_bootnode_access(net: NetworkState, args, who) {
    const { subnet_id, new_account } = args as { subnet_id: number; new_account: string }
    ensureOwner(net, subnet_id, who)
    const access = net.get<readonly string[]>('SubnetBootnodeAccess', subnet_id)
    net.ensure(!contains(access, new_account), 'InBootnodeAccessList')
    net.ensure(access.length < net.num('MaxSubnetBootnodeAccess'), 'MaxSubnetBootnodeAccess')
    net.put('SubnetBootnodeAccess', [subnet_id], withValue(access, new_account))
    net.emit('AddSubnetBootnodeAccess', { subnet_id, owner: who, new_account })
  },
  owner_remove_bootnode_access(net: NetworkState, args, who) {
    const { subnet_id, remove_account } = args as { subnet_id: number; remove_account: string }
    ensureOwner(net, subnet_id, who)
    const access = net.get<readonly string[]>('SubnetBootnodeAccess', subnet_id)
    net.ensure(contains(access, remove_account), 'NotInAccessList')
    net.put('SubnetBootnodeAccess', [subnet_id], withoutValue(access, remove_account))
    net.emit('RemoveSubnetBootnodeAccess', { subnet_id, owner: who, remove_account })
  },
  update_bootnodes(net: NetworkState, args, who) {
    const { subnet_id, add, remove } = args as {
      subnet_id: number
      add: Bootnodes
      remove: readonly Uint8Array[]
    }
    updateBootnodes(net, subnet_id, who, add, remove)
  },
}
