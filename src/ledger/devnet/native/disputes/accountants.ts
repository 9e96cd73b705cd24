import { blake2b } from '@noble/hashes/blake2.js'
import { toHex } from '../../../hex.ts'
import { subnetEpoch } from '../network/epochs.ts'
import type { SubnetData } from '../network/records.ts'
import {
  type DisputeState,
  ensure,
  ensureHotkey,
  MAX_DATA,
  PALLET_NAME,
  parameter,
  validators,
} from './records.ts'

/** Epochs after which an epoch's accountants and their data are forgotten; bounds the storage they take. */
const KEPT_EPOCHS = 64
/** Most accountants of an epoch. */
export const MAX_ACCOUNTANTS = 64

/** At a subnet's slot: chooses the epoch's accountants among its Validator nodes, by randomness that nobody chose. */
export function chooseAccountants(state: DisputeState): void {
  const { context, net } = state
  const subnetId = net.get<number | undefined>('SlotAssignment', context.block % net.epochBlocks)
  if (subnetId === undefined) return
  const subnet = net.get<SubnetData | undefined>('SubnetsData', subnetId)
  if (subnet?.state !== 'Active') return
  const epoch = subnetEpoch(net, subnetId)
  const chosen = rank(context.random(`/disputes accountants ${subnetId}`), validators(state, subnetId))
    .slice(0, parameter<number>(state, 'TargetAccountants'))
    .toSorted((a, b) => a - b)
  context.set(`${PALLET_NAME}.Accountants`, [subnetId, epoch], chosen)
  const old = epoch - KEPT_EPOCHS
  if (old < 0) return
  context.remove(`${PALLET_NAME}.Accountants`, subnetId, old)
  context.removeAll(`${PALLET_NAME}.AccountantData`, subnetId, old)
}

/** Nodes by BLAKE2b(seed, id): who joins or leaves changes no more than one place. */
function rank(seed: Uint8Array, nodes: readonly number[]): number[] {
  return nodes
    .map((id) => {
      const input = new Uint8Array(seed.length + 4)
      input.set(seed)
      new DataView(input.buffer).setUint32(seed.length, id, true)
      return { id, place: toHex(blake2b(input, { dkLen: 32 })) }
    })
    .toSorted((a, b) => (a.place < b.place ? -1 : 1))
    .map(({ id }) => id)
}

/** A chosen accountant files what it found, once, in its epoch or the next. */
export function submitAccountantData(
  state: DisputeState,
  who: string,
  subnetId: number,
  nodeId: number,
  epoch: number,
  data: Uint8Array,
): void {
  const { context, net } = state
  ensureHotkey(state, subnetId, nodeId, who)
  const now = subnetEpoch(net, subnetId)
  ensure(state, epoch === now || epoch === now - 1, 'AccountantEpochInvalid')
  const chosen = context.get(`${PALLET_NAME}.Accountants`, subnetId, epoch) as readonly number[]
  ensure(state, chosen.includes(nodeId), 'NotAccountant')
  ensure(state, data.length <= MAX_DATA, 'DataTooLong')
  const keys = [subnetId, epoch, nodeId]
  ensure(state, !context.has(`${PALLET_NAME}.AccountantData`, ...keys), 'AccountantDataSubmitted')
  context.set(`${PALLET_NAME}.AccountantData`, keys, { block: context.block, data })
  context.emit('AccountantSubmission', { subnet_id: subnetId, subnet_node_id: nodeId, epoch })
}
