import { hexToBytes } from '@noble/hashes/utils.js'
import { ChoraleError } from '../errors.ts'
import type { Ledger, NodeClass } from '../ledger/ledger.ts'
import {
  DEFAULT_SUBNET_PARAMETERS,
  parseSubnetParameters,
  type SubnetParameters,
} from '../ledger/subnet-parameters.ts'
import { chooseAccountants } from './accountants.ts'
import type { Membership } from './agreement.ts'
import type { LedgerView } from './snapshot.ts'

/** Reads what scores are computed from, all of it at one block. */

/** A `LedgerView` and what the agreement rule needs besides. */
export interface EpochView extends LedgerView {
  readonly members: Membership
  /** Nodes of class Validator. */
  readonly validators: readonly number[]
  /** As the subnet's `misc` said at that block; the defaults where it was unreadable, for everybody alike. */
  readonly parameters: SubnetParameters
}

export interface EpochViewRequest {
  readonly subnetId: number
  /** Subnet epoch in which scores are proposed; the one before it is scored. */
  readonly epoch: number
  readonly slot: number
  /** First block of `epoch`. */
  readonly blockHash: string
  /** The view of the epoch before, when it is here. */
  readonly before?: EpochView | undefined
}

const CLASS_ORDER: readonly NodeClass[] = ['Registered', 'Idle', 'Included', 'Validator']
/** Attestation by which the pallet accepts scores: 66 %. */
const ACCEPTED_PER_MILLE = 660
/** Epochs in a row whose proposals fail, before any evidence is taken as known. */
const LOOK_BACK = 4

/** The view at the first block of an epoch. @throws `ledger` when the node can't show that block's state. */
export async function readEpochView(ledger: Ledger, request: EpochViewRequest): Promise<EpochView> {
  const { subnetId, epoch, slot, blockHash } = request
  const { epochBlocks, blockMs } = ledger.info
  const block = epoch * epochBlocks + slot
  const scored = epoch - 1
  const [subnet, all, timestamp] = await Promise.all([
    ledger.subnet(subnetId, blockHash),
    ledger.nodes(subnetId, blockHash),
    ledger.storage('Timestamp', 'Now', [], blockHash),
  ])
  if (typeof timestamp !== 'bigint' && typeof timestamp !== 'number') {
    throw new ChoraleError(
      'ledger',
      `block ${blockHash} has no timestamp: Timestamp.Now is ${typeof timestamp}`,
    )
  }
  const until = Number(timestamp)
  const parameters = readParameters(subnet?.misc ?? '')
  const nodes = all.filter(
    (node) => isAtLeast(node.class, 'Included') && !node.queued && node.startEpoch <= epoch,
  )
  const validators = nodes.filter((node) => node.class === 'Validator').map(({ id }) => id)
  const owners = new Map<string, string>()
  for (const { coldkey, peerId, bootnodePeerId, clientPeerId } of all) {
    for (const id of [peerId, bootnodePeerId, clientPeerId]) if (id !== undefined) owners.set(id, coldkey)
  }
  return {
    subnetId,
    epoch: scored,
    block,
    blockHash,
    nodes: nodes.map(({ id, peerId, coldkey }) => ({ nodeId: id, peerId, coldkey })),
    owners,
    accountants: new Set(
      await accountantsOf(ledger, { ...request, epoch: scored }, validators, parameters.accountants),
    ),
    from: (await startOf(ledger, request)) ?? until - epochBlocks * blockMs,
    until,
    members: {
      previous: (await lastAccepted(ledger, request)) ?? new Set(nodes.map(({ id }) => id)),
      joined: new Set(nodes.filter(({ startEpoch }) => startEpoch >= scored).map(({ id }) => id)),
    },
    validators,
    parameters,
  }
}

function readParameters(misc: string): SubnetParameters {
  try {
    return parseSubnetParameters(misc)
  } catch {
    return DEFAULT_SUBNET_PARAMETERS
  }
}

/**
 * Time of the scored epoch's first block: from the last view, which was taken there, else from that block's state.
 * Undefined where a node forgot it (ordinary ones do after 256 blocks): by the chain's nominal block time then, so that a
 * validator which started in the middle of a long epoch may disagree once about receipts at its edge.
 */
async function startOf(ledger: Ledger, request: EpochViewRequest): Promise<number | undefined> {
  const { before, blockHash, epoch, slot } = request
  const number = (epoch - 1) * ledger.info.epochBlocks + slot
  const hash = await ledger.storage('System', 'BlockHash', [number], blockHash)
  if (typeof hash !== 'string') return undefined
  if (before?.blockHash === hash) return before.until
  try {
    const time = await ledger.storage('Timestamp', 'Now', [], hash)
    return typeof time === 'bigint' ? Number(time) : undefined
  } catch {
    return undefined
  }
}

/**
 * Accountants of `request.epoch`, as known at `request.blockHash`: the pallet's choice where the chain has pallet
 * Disputes, else ranked by the hash of that epoch's first block.
 */
export async function accountantsOf(
  ledger: Ledger,
  request: EpochViewRequest,
  validators: readonly number[],
  count: number,
): Promise<readonly number[]> {
  const { subnetId, epoch, slot, blockHash } = request
  if (ledger.info.disputes) {
    const chosen = await ledger.storage('Disputes', 'Accountants', [subnetId, epoch], blockHash)
    return Array.isArray(chosen) ? chosen.filter((id): id is number => typeof id === 'number') : []
  }
  const seed = await epochSeed(ledger, epoch * ledger.info.epochBlocks + slot, blockHash)
  return seed === undefined ? [] : chooseAccountants(seed, validators, count)
}

/** Hash of block `number` as block `at` knows it; undefined when that is too long ago. */
export async function epochSeed(ledger: Ledger, number: number, at: string): Promise<Uint8Array | undefined> {
  const hash = await ledger.storage('System', 'BlockHash', [number], at)
  if (typeof hash !== 'string' || !/^0x[0-9a-f]{64}$/.test(hash) || /^0x0+$/.test(hash)) return undefined
  return hexToBytes(hash.slice(2))
}

/**
 * Nodes that the last accepted proposal scored, before `request.epoch`; undefined when none was of late: then nobody can
 * be told from a newcomer.
 */
async function lastAccepted(
  ledger: Ledger,
  { subnetId, epoch, blockHash }: EpochViewRequest,
): Promise<ReadonlySet<number> | undefined> {
  for (let before = epoch - 1; before >= Math.max(0, epoch - LOOK_BACK); before--) {
    const consensus = await ledger.consensus(subnetId, before, blockHash)
    if (consensus === undefined) continue
    const { attestors, scores, validators } = consensus
    if (attestors.length * 1000 < validators.length * ACCEPTED_PER_MILLE) continue
    return new Set(scores.map(({ nodeId }) => nodeId))
  }
  return undefined
}

/** Whether a node of class `have` may do what `least` may. */
export function isAtLeast(have: NodeClass, least: NodeClass): boolean {
  return CLASS_ORDER.indexOf(have) >= CLASS_ORDER.indexOf(least)
}
