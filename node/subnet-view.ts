import { epochTime } from '../src/attest/epoch-clock.ts'
import type { NodeClass } from '../src/ledger/ledger.ts'
import { formatTokens } from '../src/ledger/amounts.ts'
import type { Subnet } from './join-subnet.ts'

/** A subnet as dashboards and `chorale swarm` show it: plain JSON. */
export interface SubnetView {
  /** Where the ledger's node is, and 0x-hex of its first block: pages and verbs connect to it themselves. */
  readonly url: string
  readonly genesisHash: string
  readonly chain: string
  readonly token: string
  readonly subnetId: number
  readonly name: string
  readonly state: string
  readonly block: number
  readonly epoch: number
  /** Part of the epoch that is over, 0 to 1. */
  readonly progress: number
  /** Peer id of the node elected for this epoch. */
  readonly elected: string | null
  /** Whether it proposed, and which part of the validators attested so far. */
  readonly proposed: boolean
  readonly attestation: number | null
  /** Part of the validators that attested in the last epoch; null when nothing was proposed. */
  readonly lastAttestation: number | null
  readonly nodes: readonly {
    readonly id: number
    readonly peerId: string
    readonly class: NodeClass
    /** In tokens. */
    readonly stake: string
    /** 0 to 1. */
    readonly reputation: number
  }[]
}

/** Reads what there is to show. @throws `ledger`, `unreachable`. */
export async function viewSubnet({
  ledger,
  place,
}: Pick<Subnet, 'ledger' | 'place'>): Promise<SubnetView | undefined> {
  const { subnetId, url } = place
  const { epochBlocks, tokenDecimals, tokenSymbol, chain, genesisHash } = ledger.info
  const { number, hash } = await ledger.head()
  const subnet = await ledger.subnet(subnetId, hash)
  if (subnet === undefined || epochBlocks === 0) return undefined
  const { epoch, progress } = epochTime(number, subnet.slot ?? 0, epochBlocks)
  const [nodes, electedId, now, last] = await Promise.all([
    ledger.nodes(subnetId, hash),
    ledger.electedNode(subnetId, epoch, hash),
    ledger.consensus(subnetId, epoch, hash),
    ledger.consensus(subnetId, epoch - 1, hash),
  ])
  const share = (consensus: typeof now): number | null =>
    consensus === undefined ? null : consensus.attestors.length / Math.max(1, consensus.validators.length)
  return {
    url,
    genesisHash,
    chain,
    token: tokenSymbol,
    subnetId,
    name: subnet.name,
    state: subnet.state,
    block: number,
    epoch,
    progress: progress / 1000,
    elected: nodes.find(({ id }) => id === electedId)?.peerId ?? null,
    proposed: now !== undefined,
    attestation: share(now),
    lastAttestation: share(last),
    nodes: nodes.map((node) => ({
      id: node.id,
      peerId: node.peerId,
      class: node.class,
      stake: formatTokens(node.stake, tokenDecimals),
      reputation: Number(node.reputation / 10n ** 12n) / 1e6,
    })),
  }
}
