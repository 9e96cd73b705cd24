import type { LedgerCall, LedgerValue } from './ledger.ts'

/**
 * Calls of the Network and Disputes pallets (and the few of others that are needed), with the pallet's names and types. Accounts as
 * the chain prints them, amounts in the smallest unit, ratios with 1e18 = 100 %.
 */

const text = new TextEncoder()

/** One of a node's peer ids: base58 text, and where it is reached as a binary multiaddr that ends in /p2p. */
export interface PeerInfo {
  readonly peerId: string
  readonly multiaddr?: Uint8Array
}

/** What a subnet is registered with. */
export interface SubnetRegistration {
  readonly name: string
  readonly repo: string
  readonly description: string
  /** Chorale keeps its subnet parameters here (`subnet-parameters.ts`). */
  readonly misc: string
  readonly minStake: bigint
  readonly maxStake: bigint
  /** Delegators' share of the subnet's rewards, 5–95 %. */
  readonly delegateStakePercentage: bigint
  /** Who may register nodes before activation, and how many; at least three. */
  readonly initialColdkeys: readonly (readonly [coldkey: string, nodes: number])[]
  /** 1–32: peer id and binary multiaddr. */
  readonly bootnodes: readonly (readonly [peerId: string, multiaddr: Uint8Array])[]
}

/** What a subnet node is registered with. */
export interface NodeRegistration {
  readonly subnetId: number
  readonly hotkey: string
  readonly peer: PeerInfo
  readonly bootnodePeer?: PeerInfo
  readonly clientPeer?: PeerInfo
  /** Share of the node's rewards that its own delegators get. Default 0. */
  readonly delegateRewardRate?: bigint
  readonly stake: bigint
  readonly unique?: Uint8Array
  readonly nonUnique?: Uint8Array
  /** Most that may be burnt for registering. */
  readonly maxBurn: bigint
}

/** Registers a subnet; costs what `subnetRegistrationCost` says, at most `maxCost`. Signed by its owner to be. */
export function registerSubnet(maxCost: bigint, subnet: SubnetRegistration): LedgerCall {
  return network('register_subnet', {
    max_cost: maxCost,
    subnet_data: {
      name: bytes(subnet.name),
      repo: bytes(subnet.repo),
      description: bytes(subnet.description),
      misc: bytes(subnet.misc),
      min_stake: subnet.minStake,
      max_stake: subnet.maxStake,
      delegate_stake_percentage: subnet.delegateStakePercentage,
      // Maps are written in key order, as the chain keeps them.
      initial_coldkeys: sorted(subnet.initialColdkeys),
      bootnodes: sorted(subnet.bootnodes).map(([peer, address]) => [bytes(peer), address]),
    },
  })
}

/** Starts a registered subnet that has nodes and delegate stake enough. */
export function activateSubnet(subnetId: number): LedgerCall {
  return network('activate_subnet', { subnet_id: subnetId })
}

/** Writes the subnet's free text, where Chorale keeps its parameters. Signed by the owner. */
export function updateSubnetMisc(subnetId: number, misc: string): LedgerCall {
  return network('owner_update_misc', { subnet_id: subnetId, value: bytes(misc) })
}

/** Registers a node and stakes for it. Signed by the coldkey. */
export function registerNode(node: NodeRegistration): LedgerCall {
  return network('register_subnet_node', {
    subnet_id: node.subnetId,
    hotkey: node.hotkey,
    peer_info: peerInfo(node.peer),
    bootnode_peer_info: node.bootnodePeer === undefined ? undefined : peerInfo(node.bootnodePeer),
    client_peer_info: node.clientPeer === undefined ? undefined : peerInfo(node.clientPeer),
    delegate_reward_rate: node.delegateRewardRate ?? 0n,
    stake_to_be_added: node.stake,
    unique: node.unique,
    non_unique: node.nonUnique,
    delegate_account: undefined,
    max_burn_amount: node.maxBurn,
  })
}

/** Takes a node out; its stake can be removed then. Signed by hotkey or coldkey. */
export function removeNode(subnetId: number, nodeId: number): LedgerCall {
  return network('remove_subnet_node', { subnet_id: subnetId, subnet_node_id: nodeId })
}

/** Stakes more for a node. Signed by the coldkey. */
export function addStake(subnetId: number, nodeId: number, hotkey: string, amount: bigint): LedgerCall {
  return network('add_stake', {
    subnet_id: subnetId,
    subnet_node_id: nodeId,
    hotkey,
    stake_to_be_added: amount,
  })
}

/** Begins to take stake back: claimable after the cool-down. Signed by the coldkey. */
export function removeStake(subnetId: number, hotkey: string, amount: bigint): LedgerCall {
  return network('remove_stake', { subnet_id: subnetId, hotkey, stake_to_be_removed: amount })
}

/** Takes what has cooled down into the free balance. */
export function claimUnbondings(): LedgerCall {
  return network('claim_unbondings', {})
}

/** Puts tokens into a subnet's delegate pool. */
export function addDelegateStake(subnetId: number, amount: bigint): LedgerCall {
  return network('add_to_delegate_stake', { subnet_id: subnetId, stake_to_be_added: amount })
}

/** Takes shares out of a subnet's delegate pool: claimable after the cool-down. */
export function removeDelegateStake(subnetId: number, shares: bigint): LedgerCall {
  return network('remove_delegate_stake', { subnet_id: subnetId, shares_to_be_removed: shares })
}

/** The elected node's scores. Signed by its hotkey; free when it succeeds. */
export function proposeAttestation(
  subnetId: number,
  scores: readonly { readonly nodeId: number; readonly score: bigint }[],
  more: {
    readonly prioritizeQueueNodeId?: number
    readonly removeQueueNodeId?: number
    /** At most 4096 bytes each. */
    readonly args?: Uint8Array
    readonly attestData?: Uint8Array
  } = {},
): LedgerCall {
  return network('propose_attestation', {
    subnet_id: subnetId,
    data: scores.map(({ nodeId, score }) => ({ subnet_node_id: nodeId, score })),
    prioritize_queue_node_id: more.prioritizeQueueNodeId,
    remove_queue_node_id: more.removeQueueNodeId,
    args: more.args,
    attest_data: more.attestData,
  })
}

/** Agrees with what was proposed. Signed by a node's hotkey; free when it succeeds. */
export function attest(subnetId: number, data?: Uint8Array): LedgerCall {
  return network('attest', { subnet_id: subnetId, attest_data: data })
}

/** Accuses a node by evidence (its SHA-256 and at most what the pallet stores of it); locks a bond. */
export function proposeDispute(
  subnetId: number,
  nodeId: number,
  defendantNodeId: number,
  evidence: Uint8Array,
  data: Uint8Array,
): LedgerCall {
  return disputes('propose', {
    subnet_id: subnetId,
    subnet_node_id: nodeId,
    defendant_node_id: defendantNodeId,
    evidence,
    data,
  })
}

/** The accused answers and locks the same bond. */
export function challengeDispute(subnetId: number, disputeId: number, data: Uint8Array): LedgerCall {
  return disputes('challenge_proposal', { subnet_id: subnetId, proposal_id: disputeId, data })
}

/** An eligible node's vote on a challenged dispute. */
export function voteOnDispute(subnetId: number, disputeId: number, nodeId: number, yay: boolean): LedgerCall {
  return disputes('vote', { subnet_id: subnetId, proposal_id: disputeId, subnet_node_id: nodeId, yay })
}

/** The accuser takes an unchallenged dispute back. */
export function cancelDispute(subnetId: number, disputeId: number): LedgerCall {
  return disputes('cancel_proposal', { subnet_id: subnetId, proposal_id: disputeId })
}

/** Settles a dispute whose time is over; anybody may. */
export function finalizeDispute(subnetId: number, disputeId: number): LedgerCall {
  return disputes('finalize_proposal', { subnet_id: subnetId, proposal_id: disputeId })
}

/** A chosen accountant's result of a subnet epoch. */
export function submitAccounting(
  subnetId: number,
  nodeId: number,
  subnetEpoch: number,
  data: Uint8Array,
): LedgerCall {
  return disputes('submit_accountant_data', {
    subnet_id: subnetId,
    subnet_node_id: nodeId,
    subnet_epoch: subnetEpoch,
    data,
  })
}

/** Moves tokens; the sender's account stays alive. */
export function transfer(to: string, amount: bigint): LedgerCall {
  return { pallet: 'Balances', call: 'transfer_keep_alive', args: { dest: to, value: amount } }
}

function network(call: string, args: Readonly<Record<string, LedgerValue>>): LedgerCall {
  return { pallet: 'Network', call, args }
}

function disputes(call: string, args: Readonly<Record<string, LedgerValue>>): LedgerCall {
  return { pallet: 'Disputes', call, args }
}

function peerInfo({ peerId, multiaddr }: PeerInfo): LedgerValue {
  return { peer_id: bytes(peerId), multiaddr }
}

function bytes(value: string): Uint8Array {
  return text.encode(value)
}

function sorted<T>(entries: readonly (readonly [string, T])[]): readonly (readonly [string, T])[] {
  return [...entries].sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))
}
