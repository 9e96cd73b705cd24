import type {
  Consensus,
  Dispute,
  Ledger,
  LedgerBlock,
  LedgerCall,
  LedgerSigner,
  LedgerStatus,
  LedgerValue,
  SubnetNode,
} from '../../src/ledger/ledger.ts'
import { ChoraleError } from '../../src/errors.ts'

/**
 * A ledger whose state a test writes by hand, each block's for itself: forks, outages and lost calls included. Epochs
 * have 20 blocks, the subnet is number 1 in slot 5.
 */
export interface ScriptedBlock extends LedgerBlock {
  readonly elected: ReadonlyMap<number, number>
  readonly consensus: ReadonlyMap<number, Consensus>
}

export class ScriptedLedger implements Ledger {
  readonly info = {
    chain: 'scripted',
    genesisHash: '0x00',
    tokenSymbol: 'T',
    tokenDecimals: 18,
    accounts: 'ethereum',
    blockMs: 6_000,
    epochBlocks: 20,
    disputes: true,
  } as const
  status: LedgerStatus = { state: 'reachable', since: 0 }
  misc = ''
  nodeList: readonly SubnetNode[] = []
  disputeList: readonly Dispute[] = []
  accountants: readonly number[] = []
  readonly sent: LedgerCall[] = []
  /** Rejects the next calls with this. */
  refusal: string | undefined
  /** Whether a call that is not refused takes effect. */
  lose = false
  private readonly blocks = new Map<string, ScriptedBlock>()
  private readonly listeners = new Set<(block: LedgerBlock) => void>()
  private best: ScriptedBlock

  constructor(first: number) {
    this.best = {
      number: first,
      hash: hashOf(first, 'a'),
      parentHash: hashOf(first - 1, 'a'),
      events: [],
      elected: new Map(),
      consensus: new Map(),
    }
    this.blocks.set(this.best.hash, this.best)
  }

  get block(): ScriptedBlock {
    return this.best
  }

  /** Writes what is elected or proposed, as of the best block. */
  write(change: Partial<Pick<ScriptedBlock, 'elected' | 'consensus'>>): void {
    this.best = { ...this.best, ...change }
    this.blocks.set(this.best.hash, this.best)
  }

  /** A new best block on `parent`, with its state. */
  next(parent: ScriptedBlock = this.best, branch = 'a'): ScriptedBlock {
    const number = parent.number + 1
    const { elected, consensus } = parent
    this.best = {
      number,
      hash: hashOf(number, branch),
      parentHash: parent.hash,
      events: [],
      elected,
      consensus,
    }
    this.blocks.set(this.best.hash, this.best)
    for (const listener of this.listeners) listener(this.best)
    return this.best
  }

  head() {
    const { number, hash } = this.best
    return Promise.resolve({ number, hash, finalizedNumber: number, finalizedHash: hash })
  }
  watch(listener: (block: LedgerBlock) => void) {
    this.listeners.add(listener)
    return () => void this.listeners.delete(listener)
  }
  watchStatus() {
    return () => undefined
  }
  balance() {
    return Promise.resolve(0n)
  }
  subnet(id: number) {
    if (this.status.state !== 'reachable') return Promise.reject(new ChoraleError('ledger', 'unreachable'))
    return Promise.resolve({
      id,
      friendlyId: 1,
      name: '',
      repo: '',
      description: '',
      misc: this.misc,
      state: 'Active' as const,
      startEpoch: 0,
      owner: '0x',
      slot: 5,
      minStake: 0n,
      maxStake: 0n,
      delegateStakeBalance: 0n,
      reputation: 0n,
    })
  }
  subnets() {
    return Promise.resolve([])
  }
  nodes() {
    return Promise.resolve(this.nodeList)
  }
  proofOfStake() {
    return Promise.resolve(true)
  }
  electedNode(_: number, epoch: number, at = this.best.hash) {
    return Promise.resolve(this.blocks.get(at)?.elected.get(epoch))
  }
  consensus(_: number, epoch: number, at = this.best.hash) {
    return Promise.resolve(this.blocks.get(at)?.consensus.get(epoch))
  }
  unbondings() {
    return Promise.resolve([])
  }
  delegateStake() {
    return Promise.resolve({ shares: 0n, balance: 0n })
  }
  disputes() {
    return Promise.resolve(this.disputeList)
  }
  storage(pallet: string, item: string, keys: readonly LedgerValue[], at = this.best.hash) {
    const value = (): LedgerValue => {
      let block = this.blocks.get(at)
      if (pallet === 'Timestamp') return BigInt((block?.number ?? 0) * this.info.blockMs)
      if (pallet === 'Disputes' && item === 'Accountants') return this.accountants
      if (item === 'ChallengePeriod') return 100
      if (item === 'VotingPeriod') return 50
      if (item !== 'BlockHash') return undefined
      while (block && block.number > Number(keys[0])) block = this.blocks.get(block.parentHash)
      return block?.number === keys[0] ? block?.hash : hashOf(Number(keys[0]), 'a')
    }
    return Promise.resolve(value())
  }
  /** Puts an attestation or proposal of `signer.address` (a node id) into the best block. */
  async submit(call: LedgerCall, signer: LedgerSigner) {
    this.sent.push(call)
    if (this.refusal !== undefined) throw new ChoraleError('ledger', this.refusal)
    const epoch = Math.floor((this.best.number - 5) / 20)
    const nodeId = Number(signer.address)
    const consensus = new Map(this.best.consensus)
    const known = consensus.get(epoch)
    if (!this.lose && call.call === 'propose_attestation') {
      if (known) throw new ChoraleError('ledger', 'SubnetRewardsAlreadySubmitted')
      consensus.set(epoch, proposalOf(nodeId, this.best.number, call, this.nodeList))
    } else if (!this.lose && call.call === 'attest') {
      if (!known) throw new ChoraleError('ledger', 'InvalidSubnetConsensusSubmission')
      if (known.attestors.includes(nodeId)) throw new ChoraleError('ledger', 'AlreadyAttested')
      consensus.set(epoch, { ...known, attestors: [...known.attestors, nodeId] })
    }
    this.write({ consensus })
    return await Promise.resolve({
      blockNumber: this.best.number,
      blockHash: this.best.hash,
      extrinsicHash: '0x',
      events: [],
    })
  }
  fee() {
    return Promise.resolve(0n)
  }
  close() {
    return Promise.resolve()
  }
}

export function proposalOf(
  proposer: number,
  block: number,
  call: LedgerCall,
  nodes: readonly SubnetNode[],
): Consensus {
  const data = call.args['data'] as unknown as readonly { subnet_node_id: number; score: bigint }[]
  return {
    proposer,
    block,
    scores: data.map(({ subnet_node_id, score }) => ({ nodeId: subnet_node_id, score })),
    validators: nodes.filter((node) => node.class === 'Validator').map(({ id }) => id),
    attestors: [proposer],
    args: call.args['args'] as Uint8Array,
  }
}

export function signerOf(nodeId: number): LedgerSigner {
  return { address: `${nodeId}`, kind: 'ethereum', sign: () => Promise.resolve(new Uint8Array(65)) }
}

export function nodeOf(id: number, peerId: string, change: Partial<SubnetNode> = {}): SubnetNode {
  return {
    id,
    coldkey: `0x${id}`,
    hotkey: `0x1${id}`,
    peerId,
    bootnodePeerId: undefined,
    clientPeerId: undefined,
    class: 'Validator',
    startEpoch: 0,
    stake: 10n ** 20n,
    reputation: 10n ** 18n,
    queued: false,
    ...change,
  }
}

function hashOf(number: number, branch: string): string {
  const text = `${branch.codePointAt(0)!.toString(16)}${number.toString(16).padStart(8, '0')}`
  return `0x${text.padStart(64, '1')}`
}
