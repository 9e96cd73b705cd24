import { ChoraleError } from '../../errors.ts'
import type {
  Consensus,
  DelegateStake,
  Dispute,
  LedgerValue,
  NodeClass,
  Subnet,
  SubnetNode,
  Unbonding,
} from '../ledger.ts'
import type { State as BlockState } from './state.ts'

/** What of a block's state is needed: reading entries by name. */
type State = Pick<BlockState, 'has' | 'get' | 'getMany' | 'entries'>

/**
 * Reads Hypertensor's Network pallet by the names of its storage. `State` reads one block; what is absent there reads as
 * the pallet's defaults.
 */

const CLASSES: readonly NodeClass[] = ['Registered', 'Idle', 'Included', 'Validator']
const STATES = ['Registered', 'Active', 'Paused'] as const
const text = new TextDecoder()

type Fields = Readonly<Record<string, LedgerValue>>

/** A subnet, or undefined when there is none of that id. */
export async function readSubnet(state: State, subnetId: number): Promise<Subnet | undefined> {
  const data = await state.get('Network', 'SubnetsData', [subnetId])
  return data === undefined ? undefined : (await describe(state, [fields(data)]))[0]
}

/** All subnets, by id. */
export async function readSubnets(state: State): Promise<readonly Subnet[]> {
  const entries = await state.entries('Network', 'SubnetsData', [])
  const subnets = await describe(
    state,
    entries.map(({ value }) => fields(value)),
  )
  return [...subnets].sort((a, b) => a.id - b.id)
}

async function describe(state: State, datas: readonly Fields[]): Promise<readonly Subnet[]> {
  const items = [
    'SubnetOwner',
    'SubnetSlot',
    'SubnetMinStakeBalance',
    'SubnetMaxStakeBalance',
    'TotalSubnetDelegateStakeBalance',
    'SubnetReputation',
  ]
  const reads = datas.flatMap((data) =>
    items.map((item) => ({ pallet: 'Network', item, keys: [num(data['id'])] })),
  )
  const values = await state.getMany(reads)
  return datas.map((data, i) => {
    const [owner, slot, minStake, maxStake, delegated, reputation] = values.slice(i * items.length)
    return {
      id: num(data['id']),
      friendlyId: num(data['friendly_id']),
      name: str(data['name']),
      repo: str(data['repo']),
      description: str(data['description']),
      misc: str(data['misc']),
      state: STATES.find((name) => name === data['state']) ?? 'Registered',
      startEpoch: num(data['start_epoch']),
      owner: typeof owner === 'string' ? owner : '',
      slot: typeof slot === 'number' ? slot : undefined,
      minStake: big(minStake),
      maxStake: big(maxStake),
      delegateStakeBalance: big(delegated),
      reputation: big(reputation),
    }
  })
}

/** Live nodes, then registered ones that wait in the queue; each by id. */
export async function readNodes(state: State, subnetId: number): Promise<readonly SubnetNode[]> {
  const [live, registered] = await Promise.all([
    state.entries('Network', 'SubnetNodesData', [subnetId]),
    state.entries('Network', 'RegisteredSubnetNodesData', [subnetId]),
  ])
  const all = [
    ...live.map(({ value }) => ({ data: fields(value), queued: false })),
    ...registered.map(({ value }) => ({ data: fields(value), queued: true })),
  ]
  const items = 3
  const values = await state.getMany(
    all.flatMap(({ data }) => {
      const hotkey = textOf(data['hotkey'])
      return [
        { pallet: 'Network', item: 'HotkeyOwner', keys: [hotkey] },
        { pallet: 'Network', item: 'AccountSubnetStake', keys: [hotkey, subnetId] },
        { pallet: 'Network', item: 'SubnetNodeReputation', keys: [subnetId, num(data['id'])] },
      ]
    }),
  )
  const nodes = all.map(({ data, queued }, i): SubnetNode => {
    const [coldkey, stake, reputation] = values.slice(i * items)
    const { node_class, start_epoch } = fields(data['classification'])
    return {
      id: num(data['id']),
      coldkey: textOf(coldkey),
      hotkey: textOf(data['hotkey']),
      peerId: peerId(data['peer_info']) ?? '',
      bootnodePeerId: peerId(data['bootnode_peer_info']),
      clientPeerId: peerId(data['client_peer_info']),
      class: classOf(node_class),
      startEpoch: num(start_epoch),
      stake: big(stake),
      reputation: big(reputation),
      queued,
    }
  })
  return nodes.sort((a, b) => a.id - b.id)
}

/** Node id elected for the subnet epoch. */
export async function readElected(
  state: State,
  subnetId: number,
  subnetEpoch: number,
): Promise<number | undefined> {
  const id = await state.get('Network', 'SubnetElectedValidator', [subnetId, subnetEpoch])
  return typeof id === 'number' ? id : undefined
}

/** What was proposed and attested in a subnet epoch. */
export async function readConsensus(
  state: State,
  subnetId: number,
  subnetEpoch: number,
): Promise<Consensus | undefined> {
  const value = await state.get('Network', 'SubnetConsensusSubmission', [subnetId, subnetEpoch])
  if (value === undefined) return undefined
  const data = fields(value)
  const snapshot = list(data['subnet_nodes']).map(fields)
  const validators = snapshot.filter(({ classification }) => {
    const { node_class, start_epoch } = fields(classification)
    return node_class === 'Validator' && num(start_epoch) <= subnetEpoch
  })
  const { args } = data
  return {
    proposer: num(data['validator_id']),
    block: num(data['block']),
    scores: list(data['data']).map((entry) => {
      const { subnet_node_id, score } = fields(entry)
      return { nodeId: num(subnet_node_id), score: big(score) }
    }),
    validators: validators.map(({ id }) => num(id)),
    attestors: list(data['attests']).map((entry) => num(list(entry)[0])),
    args: args instanceof Uint8Array ? args : undefined,
  }
}

/** Unbondings by the block from which they can be claimed. */
export async function readUnbondings(state: State, account: string): Promise<readonly Unbonding[]> {
  const ledger = await state.get('Network', 'StakeUnbondingLedger', [account])
  const unbondings = list(ledger).map((entry) => ({
    block: num(list(entry)[0]),
    amount: big(list(entry)[1]),
  }))
  return unbondings.sort((a, b) => a.block - b.block)
}

/** Shares of a subnet's delegate pool and their worth: `shares · (balance + 1) / (all shares + 10)`, as the pallet converts. */
export async function readDelegateStake(
  state: State,
  account: string,
  subnetId: number,
): Promise<DelegateStake> {
  const [own, allShares, balance] = await state.getMany([
    { pallet: 'Network', item: 'AccountSubnetDelegateStakeShares', keys: [account, subnetId] },
    { pallet: 'Network', item: 'TotalSubnetDelegateStakeShares', keys: [subnetId] },
    { pallet: 'Network', item: 'TotalSubnetDelegateStakeBalance', keys: [subnetId] },
  ])
  const shares = big(own)
  return { shares, balance: (shares * (big(balance) + 1n)) / (big(allShares) + 10n) }
}

/** The least stake, from storage alone: for nodes that do not serve the runtime API. */
export async function proofFromStorage(
  state: State,
  subnetId: number,
  peer: string,
  minClass: NodeClass,
  minStake: bigint | undefined,
  subnetEpoch: number | undefined,
): Promise<boolean> {
  const key = new TextEncoder().encode(peer)
  const maps = ['PeerIdSubnetNodeId', 'BootnodePeerIdSubnetNodeId', 'ClientPeerIdSubnetNodeId']
  const ids = await state.getMany(maps.map((item) => ({ pallet: 'Network', item, keys: [subnetId, key] })))
  const nodeId = ids.find((id) => typeof id === 'number' && id > 0)
  if (nodeId === undefined || subnetEpoch === undefined) return false
  const node = (await readNodes(state, subnetId)).find(({ id }) => id === nodeId)
  if (node === undefined) return false
  if (CLASSES.indexOf(node.class) < CLASSES.indexOf(minClass)) return false
  // A registered node counts as such from the moment it is.
  if (minClass !== 'Registered' && node.startEpoch > subnetEpoch) return false
  const least = minStake ?? big(await state.get('Network', 'SubnetMinStakeBalance', [subnetId]))
  return node.stake >= least
}

/** Disputes of a subnet, by id; none on chains without pallet Disputes. */
export async function readDisputes(state: State, subnetId: number): Promise<readonly Dispute[]> {
  if (!state.has('Disputes', 'Disputes')) return []
  const entries = await state.entries('Disputes', 'Disputes', [subnetId])
  const disputes = entries.map(({ keys, value }): Dispute => {
    const data = fields(value)
    const { challenge_block, evidence, outcome } = data
    return {
      id: num(keys[0]),
      subnetId,
      plaintiff: num(data['plaintiff']),
      defendant: num(data['defendant']),
      startBlock: num(data['start_block']),
      challengeBlock: typeof challenge_block === 'number' ? challenge_block : undefined,
      yay: list(data['yay']).map(num),
      nay: list(data['nay']).map(num),
      evidence: evidence instanceof Uint8Array ? evidence : new Uint8Array(0),
      outcome: OUTCOMES[textOf(outcome)] ?? 'open',
    }
  })
  return disputes.sort((a, b) => a.id - b.id)
}

const OUTCOMES: Readonly<Record<string, Dispute['outcome']>> = {
  Open: 'open',
  Upheld: 'upheld',
  Dismissed: 'dismissed',
  Cancelled: 'cancelled',
  NoQuorum: 'no-quorum',
}

/** The class's place, as `min_class` of the runtime API wants it. */
export function classIndex(name: NodeClass): number {
  return CLASSES.indexOf(name)
}

function classOf(value: LedgerValue): NodeClass {
  const found = CLASSES.find((name) => name === value)
  if (found === undefined) throw new ChoraleError('ledger', `a node of the ledger has class ${textOf(value)}`)
  return found
}

/** Peer ids are base58 text on the chain. */
function peerId(info: LedgerValue): string | undefined {
  const { peer_id } = fields(info)
  return peer_id instanceof Uint8Array ? text.decode(peer_id) : undefined
}

function fields(value: LedgerValue): Fields {
  return typeof value === 'object' && !Array.isArray(value) && !(value instanceof Uint8Array)
    ? (value as Fields)
    : {}
}

function list(value: LedgerValue): readonly LedgerValue[] {
  return Array.isArray(value) ? (value as readonly LedgerValue[]) : []
}

function textOf(value: LedgerValue): string {
  return typeof value === 'string' ? value : ''
}

function num(value: LedgerValue): number {
  return typeof value === 'number' ? value : 0
}

function big(value: LedgerValue): bigint {
  return typeof value === 'bigint' ? value : 0n
}

function str(value: LedgerValue): string {
  return value instanceof Uint8Array ? text.decode(value) : ''
}
