import { ChoraleError } from '../../src/errors.ts'
import type {
  Ledger,
  LedgerBlock,
  LedgerEvent,
  LedgerStatus,
  NodeClass,
  Subnet,
  SubnetNode,
} from '../../src/ledger/ledger.ts'

/** A ledger of one subnet that a test writes by hand. */
export interface FakeLedger extends Ledger {
  /** Nodes by id; change them, then `mine` a block. */
  readonly table: Map<number, SubnetNode>
  /** Peer ids that `network_proofOfStake` knows beyond the nodes: bootnodes, overwatch nodes. */
  readonly extra: Set<string>
  subnetFields: Partial<Subnet>
  /** `down`: every call rejects; `wrong-chain`: another genesis answers. */
  condition: 'up' | 'down' | 'wrong-chain'
  /** How often each read was asked. */
  readonly reads: { nodes: number; proofs: number; head: number }
  /** Awaited before every reading of the nodes. */
  slow: (() => Promise<void>) | undefined
  /** A block with these events, told to whoever watches. `options` make gaps and reorganisations. */
  mine(
    events?: readonly LedgerEvent[],
    options?: { skip?: number; fork?: boolean; silent?: boolean },
  ): LedgerBlock
  register(node: Partial<SubnetNode> & { readonly id: number; readonly peerId: string }): LedgerBlock
  remove(id: number): LedgerBlock
}

export const FAKE_SUBNET = 1

/** An event of the Network pallet. */
export function networkEvent(
  name: string,
  data: LedgerEvent['data'] = { subnet_id: FAKE_SUBNET },
): LedgerEvent {
  return { pallet: 'Network', name, data }
}

/** A node with enough of everything. */
export function fakeNode(id: number, peerId: string, more: Partial<SubnetNode> = {}): SubnetNode {
  return {
    id,
    peerId,
    coldkey: `0xc${id}`,
    hotkey: `0xh${id}`,
    bootnodePeerId: undefined,
    clientPeerId: undefined,
    class: 'Validator',
    startEpoch: 0,
    stake: 1_000n,
    reputation: 10n ** 18n,
    queued: false,
    ...more,
  }
}

export function fakeLedger(nodes: readonly SubnetNode[] = []): FakeLedger {
  const listeners = new Set<(block: LedgerBlock) => void>()
  const statusListeners = new Set<(status: LedgerStatus) => void>()
  const table = new Map(nodes.map((node) => [node.id, node]))
  const extra = new Set<string>()
  let fork = 0
  const hashOf = (number: number): string => `0x${number}f${fork}`
  let number = 1
  let hash = hashOf(number)
  let condition: FakeLedger['condition'] = 'up'
  const reads = { nodes: 0, proofs: 0, head: 0 }
  const answer = <T>(value: () => T): Promise<T> =>
    condition === 'up'
      ? Promise.resolve().then(value)
      : Promise.reject(new ChoraleError('ledger', `the node is ${condition}`))
  const subnet = (): Subnet => ({
    id: FAKE_SUBNET,
    friendlyId: 1,
    name: 'fake',
    repo: '',
    description: '',
    misc: '',
    state: 'Active',
    startEpoch: 0,
    owner: '0x0',
    slot: 0,
    minStake: 100n,
    maxStake: 10n ** 30n,
    delegateStakeBalance: 0n,
    reputation: 10n ** 18n,
    ...ledger.subnetFields,
  })
  const status = (): LedgerStatus =>
    condition === 'up'
      ? { state: 'reachable', since: 0 }
      : {
          state: condition === 'down' ? 'unreachable' : 'wrong-chain',
          since: 0,
          reason: `the node is ${condition}`,
        }
  const unused = (): never => {
    throw new Error('not part of this fake')
  }
  const ledger: FakeLedger = {
    info: {
      chain: 'fake',
      genesisHash: '0x00',
      tokenSymbol: 'F',
      tokenDecimals: 18,
      accounts: 'ethereum',
      blockMs: 6_000,
      epochBlocks: 10,
      disputes: false,
    },
    table,
    extra,
    subnetFields: {},
    get condition() {
      return condition
    },
    set condition(value) {
      condition = value
      for (const listener of statusListeners) listener(status())
    },
    reads,
    slow: undefined,
    head: () => {
      reads.head++
      return answer(() => ({ number, hash, finalizedNumber: number, finalizedHash: hash }))
    },
    watch: (listener) => {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    get status() {
      return status()
    },
    watchStatus: (listener) => {
      statusListeners.add(listener)
      return () => statusListeners.delete(listener)
    },
    balance: unused,
    subnet: () => answer(subnet),
    subnets: () => answer(() => [subnet()]),
    nodes: async () => {
      reads.nodes++
      await ledger.slow?.()
      return await answer(() => [...table.values()])
    },
    proofOfStake: (_subnetId, peerId) => {
      reads.proofs++
      return answer(() => extra.has(peerId) || [...table.values()].some((node) => node.peerId === peerId))
    },
    electedNode: unused,
    consensus: unused,
    unbondings: unused,
    delegateStake: unused,
    disputes: unused,
    storage: unused,
    submit: unused,
    fee: unused,
    close: async () => undefined,
    mine: (events = [], options = {}) => {
      const parentHash = hash
      if (options.fork === true) fork++
      number += 1 + (options.skip ?? 0)
      hash = hashOf(number)
      const block = {
        number,
        hash,
        parentHash: options.fork === true || options.skip ? hashOf(number - 1) : parentHash,
        events,
      }
      if (condition === 'up' && options.silent !== true) for (const listener of listeners) listener(block)
      return block
    },
    register: ({ id, peerId, ...more }) => {
      table.set(id, fakeNode(id, peerId, more))
      return ledger.mine([
        networkEvent('SubnetNodeRegistered', { subnet_id: FAKE_SUBNET, subnet_node_id: id }),
      ])
    },
    remove: (id) => {
      table.delete(id)
      return ledger.mine([networkEvent('SubnetNodeRemoved', { subnet_id: FAKE_SUBNET, subnet_node_id: id })])
    },
  }
  return ledger
}

/** Classes from low to high. */
export const CLASSES: readonly NodeClass[] = ['Registered', 'Idle', 'Included', 'Validator']
