import { blake2b } from '@noble/hashes/blake2.js'
import { toHex } from '../../../hex.ts'
import { TypeTable } from '../type-table.ts'
import { inOverwatchCommitPeriod, overwatchEpoch, subnetEpoch } from './epochs.ts'
import { ONE, percentDiv } from './fixed-point.ts'
import { type ColdkeyNodes, forgetRemovedSubnets } from './node-keys.ts'
import { contains, type OrderedMap, withEntry, withValue } from './ordered-map.ts'
import { addOverwatchStake } from './overwatch-stake.ts'
import { isPeerId } from './multiaddr-check.ts'
import { isPeerFree } from './peer-infos.ts'
import { hasClass, type Reputation, type SubnetNode } from './records.ts'
import type { Handlers, NetworkState } from './state.ts'

function register(net: NetworkState, coldkey: string, hotkey: string, amount: bigint): void {
  net.ensure(!net.get<boolean>('OverwatchNodeBlacklist', coldkey), 'ColdkeyBlacklisted')
  net.ensure(overwatchEpoch(net) > 0, 'OverwatchEpochIsZero')
  net.ensure(net.num('TotalOverwatchNodes') < net.num('MaxOverwatchNodes'), 'MaxOverwatchNodes')
  net.ensure(hotkey !== coldkey, 'ColdkeyMatchesHotkey')
  net.ensure(!net.has('HotkeyOwner', hotkey), 'HotkeyHasOwner')
  const hotkeys = net.get<readonly string[]>('ColdkeyHotkeys', coldkey)
  net.ensure(!contains(hotkeys, hotkey), 'HotkeyAlreadyRegisteredToColdkey')
  net.put('ColdkeyHotkeys', [coldkey], withValue(hotkeys, hotkey))
  net.ensure(isQualified(net, coldkey), 'ColdkeyNotOverwatchQualified')
  addOverwatchStake(net, coldkey, hotkey, amount)
  const id = net.count('TotalOverwatchNodeUids', [], 1)
  net.put('HotkeyOwner', [hotkey], coldkey)
  net.put('HotkeyOverwatchNodeId', [hotkey], id)
  net.put('OverwatchNodeIdHotkey', [id], hotkey)
  net.put('OverwatchNodes', [id], { id, hotkey })
  net.count('TotalOverwatchNodes', [], 1)
}

/** Old enough, well reputed, attested by many, and with Validator nodes in enough of the active subnets. */
function isQualified(net: NetworkState, coldkey: string): boolean {
  const reputation = net.find<Reputation>('ColdkeyReputation', coldkey)
  const age = net.num('OverwatchMinAge')
  if (reputation === undefined || net.epoch <= age) return false
  if (net.epoch - reputation.start_epoch < age) return false
  if (reputation.score < net.big('OverwatchMinRepScore')) return false
  forgetRemovedSubnets(net, coldkey)
  const subnets = net.get<ColdkeyNodes>('ColdkeySubnetNodes', coldkey).filter(([subnetId, nodes]) => {
    const epoch = subnetEpoch(net, subnetId)
    return nodes.some((id) => {
      const node = net.find<SubnetNode>('SubnetNodesData', subnetId, id)
      return node !== undefined && hasClass(node, 'Validator', epoch)
    })
  }).length
  const active = net.num('TotalActiveSubnets')
  const diversification = subnets >= active ? ONE : percentDiv(BigInt(subnets), BigInt(active))
  return (
    diversification >= net.big('OverwatchMinDiversificationRatio') &&
    reputation.average_attestation >= net.big('OverwatchMinAvgAttestationRatio')
  )
}

/** Removes an overwatch node; its stake stays its hotkey's. Nothing happens where there is none. */
export function removeOverwatchNode(net: NetworkState, id: number): void {
  if (!net.has('OverwatchNodes', id)) return
  net.drop('OverwatchNodes', id)
  const hotkey = net.get<string | undefined>('OverwatchNodeIdHotkey', id)
  net.drop('OverwatchNodeIdHotkey', id)
  if (hotkey !== undefined) net.drop('HotkeyOverwatchNodeId', hotkey)
  for (const [subnetId, peerId] of net.get<OrderedMap<number, Uint8Array>>('OverwatchNodeIndex', id))
    net.drop('PeerIdOverwatchNodeId', subnetId, peerId)
  net.drop('OverwatchNodeIndex', id)
  net.count('TotalOverwatchNodes', [], -1)
}

function owner(
  net: NetworkState,
  id: number,
): { readonly hotkey: string; readonly coldkey: string } | undefined {
  const hotkey = net.get<string | undefined>('OverwatchNodeIdHotkey', id)
  const coldkey = hotkey === undefined ? undefined : net.find<string>('HotkeyOwner', hotkey)
  return hotkey === undefined || coldkey === undefined ? undefined : { hotkey, coldkey }
}

/** Ends the call unless `who` is one of the overwatch node's keys. @returns its coldkey. */
function ensureKey(net: NetworkState, id: number, who: string): string {
  const keys = owner(net, id)
  net.ensure(keys !== undefined && (who === keys.hotkey || who === keys.coldkey), 'NotKeyOwner')
  return keys.coldkey
}

function ensureWeigher(net: NetworkState, id: number, who: string): void {
  const coldkey = ensureKey(net, id, who)
  net.ensure(!net.get<boolean>('OverwatchNodeBlacklist', coldkey), 'ColdkeyBlacklisted')
}

/** Codecs of types that need no definitions. */
const PLAIN_TYPES = new TypeTable()

type Commit = { readonly subnet_id: number; readonly weight: string }
type Reveal = { readonly subnet_id: number; readonly weight: bigint; readonly salt: Uint8Array }

export const overwatchNodeCalls: Handlers = {
  register_overwatch_node(net: NetworkState, args, who) {
    const { hotkey, stake_to_be_added } = args as { hotkey: string; stake_to_be_added: bigint }
    register(net, who, hotkey, stake_to_be_added)
  },
  remove_overwatch_node(net: NetworkState, args, who) {
    const { overwatch_node_id: id } = args as { overwatch_node_id: number }
    ensureKey(net, id, who)
    net.ensure(net.has('OverwatchNodes', id), 'InvalidOverwatchNodeId')
    removeOverwatchNode(net, id)
  },
  anyone_remove_overwatch_node(net: NetworkState, args) {
    const { overwatch_node_id: id } = args as { overwatch_node_id: number }
    const hotkey = net.get<string | undefined>('OverwatchNodeIdHotkey', id)
    net.ensure(hotkey !== undefined, 'InvalidOverwatchNodeId')
    net.ensure(!isQualified(net, net.get('HotkeyOwner', hotkey)), 'ColdkeyOverwatchQualified')
    removeOverwatchNode(net, id)
  },
  set_overwatch_node_peer_id(net: NetworkState, args, who) {
    const {
      subnet_id,
      overwatch_node_id: id,
      peer_id,
    } = args as {
      subnet_id: number
      overwatch_node_id: number
      peer_id: Uint8Array
    }
    net.ensure(net.has('SubnetsData', subnet_id), 'InvalidSubnetId')
    ensureKey(net, id, who)
    net.ensure(isPeerId(peer_id), 'InvalidPeerId')
    net.ensure(isPeerFree(net, subnet_id, peer_id), 'PeerIdExist')
    const peers = net.get<OrderedMap<number, Uint8Array>>('OverwatchNodeIndex', id)
    // The chain leaves the former peer id valid forever.
    for (const [other, former] of peers)
      if (other === subnet_id) net.drop('PeerIdOverwatchNodeId', subnet_id, former)
    net.put('PeerIdOverwatchNodeId', [subnet_id, peer_id], id)
    net.put('OverwatchNodeIndex', [id], withEntry(peers, subnet_id, peer_id))
  },
  commit_overwatch_subnet_weights(net: NetworkState, args, who) {
    const { overwatch_node_id: id, commit_weights } = args as {
      overwatch_node_id: number
      commit_weights: readonly Commit[]
    }
    ensureWeigher(net, id, who)
    net.ensure(inOverwatchCommitPeriod(net), 'NotCommitPeriod')
    const seen = new Set<number>()
    const commits = commit_weights.filter(({ subnet_id }) => {
      if (seen.has(subnet_id)) return false
      seen.add(subnet_id)
      return net.has('SubnetsData', subnet_id)
    })
    net.ensure(commits.length > 0, 'CommitsEmpty')
    const epoch = overwatchEpoch(net)
    for (const { subnet_id, weight } of commits) {
      net.ensure(!net.has('OverwatchCommits', epoch, id, subnet_id), 'AlreadyCommitted')
      net.put('OverwatchCommits', [epoch, id, subnet_id], weight)
    }
  },
  reveal_overwatch_subnet_weights(net: NetworkState, args, who) {
    const { overwatch_node_id: id, reveals } = args as {
      overwatch_node_id: number
      reveals: readonly Reveal[]
    }
    ensureWeigher(net, id, who)
    net.ensure(!inOverwatchCommitPeriod(net), 'NotRevealPeriod')
    const epoch = overwatchEpoch(net)
    for (const { subnet_id, weight, salt } of reveals) {
      net.ensure(weight <= ONE, 'InvalidWeight')
      const commit = net.get<string | undefined>('OverwatchCommits', epoch, id, subnet_id)
      net.ensure(commit !== undefined, 'NoCommitFound')
      net.ensure(commit === weightCommitment(weight, salt), 'RevealMismatch')
      net.put('OverwatchReveals', [epoch, subnet_id, id], weight)
    }
  },
}

/** What is committed for a weight: BLAKE2b-256 over the SCALE bytes of `(weight: u128, salt: Bytes)`, as hex. */
export function weightCommitment(weight: bigint, salt: Uint8Array): string {
  return toHex(blake2b(PLAIN_TYPES.encode('(u128, Bytes)', [weight, salt]), { dkLen: 32 }))
}
