/** A subnet as the gateway's `/api/v1/state` tells of it, where the swarm has a ledger. */
export interface SubnetView {
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
  readonly elected: string | undefined
  readonly proposed: boolean
  /** Part of the validators that attested so far, and in the last epoch; 0 to 1. */
  readonly attestation: number | undefined
  readonly lastAttestation: number | undefined
  readonly nodes: readonly StakedNode[]
  /** ws:// or wss:// of a node of the ledger, and 0x-hex of its first block. */
  readonly url: string | undefined
  readonly genesisHash: string | undefined
}

/** A node of a subnet. */
export interface StakedNode {
  readonly id: number
  readonly peerId: string
  readonly class: string
  /** In tokens. */
  readonly stake: string
  /** 0 to 1. */
  readonly reputation: number
}

/** More would only make the page slow; the pallet allows 256. */
const MAX_NODES = 1024
const MAX_TEXT = 200

/** Reads a gateway's word, which may be anybody's; undefined when there is none, or it is unusable. */
export function readSubnetView(value: unknown): SubnetView | undefined {
  const found = record(value)
  const { nodes, proposed } = found
  if (!Array.isArray(nodes) || typeof found['subnetId'] !== 'number') return undefined
  const url = text(found['url'])
  return {
    chain: text(found['chain']) ?? '',
    token: text(found['token']) ?? '',
    subnetId: found['subnetId'],
    name: text(found['name']) ?? '',
    state: text(found['state']) ?? '',
    block: number(found['block']) ?? 0,
    epoch: number(found['epoch']) ?? 0,
    progress: share(found['progress']) ?? 0,
    elected: text(found['elected']),
    proposed: proposed === true,
    attestation: share(found['attestation']),
    lastAttestation: share(found['lastAttestation']),
    nodes: nodes.slice(0, MAX_NODES).map(readNode),
    url: url !== undefined && /^wss?:\/\//.test(url) ? url : undefined,
    genesisHash: text(found['genesisHash']),
  }
}

function readNode(value: unknown): StakedNode {
  const found = record(value)
  return {
    id: number(found['id']) ?? 0,
    peerId: text(found['peerId']) ?? '',
    class: text(found['class']) ?? '',
    stake: text(found['stake']) ?? '',
    reputation: share(found['reputation']) ?? 0,
  }
}

function record(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null ? (value as Readonly<Record<string, unknown>>) : {}
}

function text(value: unknown): string | undefined {
  return typeof value === 'string' ? value.slice(0, MAX_TEXT) : undefined
}

function number(value: unknown): number | undefined {
  return typeof value === 'number' && Number.isFinite(value) ? value : undefined
}

function share(value: unknown): number | undefined {
  const found = number(value)
  return found === undefined ? undefined : Math.min(1, Math.max(0, found))
}
