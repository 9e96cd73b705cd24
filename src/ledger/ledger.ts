/**
 * Port: the Substrate chain on which stake, membership, scores and disputes live.
 *
 * Written against Hypertensor's Network pallet; names and numbers are the pallet's. Implementations: any node URL through
 * @polkadot/api (`substrate.ts`), and the native dev chain inside this process (`devnet/`). Amounts are bigints in the
 * smallest unit, ratios bigints with 1e18 = 100 %, accounts text as the chain prints them (`0x…` in lower case, or SS58).
 */
export interface Ledger {
  readonly info: LedgerInfo
  head(): Promise<LedgerHead>
  /** Calls back for every new best block, in order, with its decoded events; returns how to stop. */
  watch(listener: (block: LedgerBlock) => void): () => void
  /** Whether the node answers now and is on the expected genesis, and when it last did. */
  readonly status: LedgerStatus
  /** Calls back when `status` changes; returns how to stop. */
  watchStatus(listener: (status: LedgerStatus) => void): () => void

  /** Free balance. All reads take a block hash; without one they read the best block. */
  balance(account: string, at?: string): Promise<bigint>
  subnet(subnetId: number, at?: string): Promise<Subnet | undefined>
  subnets(at?: string): Promise<readonly Subnet[]>
  /** Registered, queued and live nodes. */
  nodes(subnetId: number, at?: string): Promise<readonly SubnetNode[]>
  /** `network_proofOfStake`: whether the peer id is a node (main, bootnode or client peer) of at least `minClass` with `minStake`. */
  proofOfStake(
    subnetId: number,
    peerId: string,
    minClass: NodeClass,
    minStake?: bigint,
    at?: string,
  ): Promise<boolean>
  /** Node id elected for the subnet epoch. */
  electedNode(subnetId: number, subnetEpoch: number, at?: string): Promise<number | undefined>
  /** What was proposed and attested in a subnet epoch. */
  consensus(subnetId: number, subnetEpoch: number, at?: string): Promise<Consensus | undefined>
  /** Amounts that leave stake, by the block from which they can be claimed. */
  unbondings(account: string, at?: string): Promise<readonly Unbonding[]>
  /** The account's share of a subnet's delegate pool, in shares and what they are worth now. */
  delegateStake(account: string, subnetId: number, at?: string): Promise<DelegateStake>
  /** Disputes of a subnet; empty where the chain has no such pallet (`info.disputes`). */
  disputes(subnetId: number, at?: string): Promise<readonly Dispute[]>
  /** Any plain storage value or map entry by the pallet's names, decoded; for what has no method here. */
  storage(
    pallet: string,
    item: string,
    keys: readonly LedgerValue[],
    at?: string,
  ): Promise<LedgerValue | undefined>

  /**
   * Signs, sends and waits until the call is in a block (or final, as asked). Sends of one account are numbered in order,
   * several may be under way. A dispatch error rejects with `ledger` and the error's name in the message.
   */
  submit(call: LedgerCall, signer: LedgerSigner, options?: SubmitOptions): Promise<Submitted>
  /** What sending would cost. */
  fee(call: LedgerCall, signer: LedgerSigner): Promise<bigint>
  close(): Promise<void>
}

export interface LedgerInfo {
  /** As the node names it. */
  readonly chain: string
  /** 0x-hex. */
  readonly genesisHash: string
  readonly tokenSymbol: string
  readonly tokenDecimals: number
  /** `ethereum`: 20-byte accounts signed with secp256k1 over keccak-256; `substrate`: 32-byte accounts (sr25519, ed25519, ecdsa). */
  readonly accounts: 'ethereum' | 'substrate'
  readonly blockMs: number
  /** Blocks of an epoch, constant `EpochLength`. 0 where the chain has no Network pallet. */
  readonly epochBlocks: number
  /** Whether the chain settles disputes (pallet Disputes). */
  readonly disputes: boolean
}

export interface LedgerHead {
  readonly number: number
  readonly hash: string
  readonly finalizedNumber: number
  readonly finalizedHash: string
}

/** `reachable`: answers arrive; otherwise since when not, and why. `since` in ms since the epoch. */
export type LedgerStatus =
  | { readonly state: 'reachable'; readonly since: number }
  | { readonly state: 'unreachable' | 'wrong-chain'; readonly since: number; readonly reason: string }

export interface LedgerBlock {
  readonly number: number
  readonly hash: string
  readonly parentHash: string
  readonly events: readonly LedgerEvent[]
}

/** An event by the metadata's names: pallet `Network`, name `SubnetNodeRemoved`. Unnamed fields are `0`, `1`, … */
export interface LedgerEvent {
  readonly pallet: string
  readonly name: string
  readonly data: Readonly<Record<string, LedgerValue>>
  /** Which extrinsic of the block caused it; undefined for what the block itself did. */
  readonly extrinsic?: number
}

/**
 * A decoded SCALE value: integers up to 32 bits are numbers, wider ones bigints, bytes are Uint8Array, accounts and hashes
 * text, Option None is undefined, structs are records with the metadata's snake_case names, unit enum variants are text,
 * others `{ type, value }`, maps are arrays of [key, value], sets and vectors arrays.
 */
export type LedgerValue =
  | undefined
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | readonly LedgerValue[]
  | { readonly [field: string]: LedgerValue }

/** A call by the metadata's names; arguments by name, as `LedgerValue`. */
export interface LedgerCall {
  /** `Network`, `Disputes`, `Balances`, `Sudo`, … */
  readonly pallet: string
  /** snake_case, e.g. `register_subnet_node`. */
  readonly call: string
  readonly args: Readonly<Record<string, LedgerValue>>
}

/** Someone who signs for an account. */
export interface LedgerSigner {
  /** As the chain prints it. */
  readonly address: string
  readonly kind: 'ethereum' | 'sr25519' | 'ed25519' | 'ecdsa'
  /** Signs the bytes of a transaction. `ethereum`: 65 bytes r, s, v over keccak-256 of them. */
  sign(payload: Uint8Array): Promise<Uint8Array>
  /** What a wallet does instead: shows the transaction and answers with the signature as the chain stores it (with its kind). */
  readonly signPayload?: (payload: SignerPayload) => Promise<Uint8Array>
}

/** A transaction as the injected-extension protocol hands it to a wallet: fields of `SignerPayloadJSON`, mostly 0x-hex. */
export interface SignerPayload {
  readonly address: string
  readonly blockHash: string
  readonly blockNumber: string
  readonly era: string
  readonly genesisHash: string
  readonly method: string
  readonly nonce: string
  readonly specVersion: string
  readonly tip: string
  readonly transactionVersion: string
  readonly signedExtensions: readonly string[]
  readonly version: number
  readonly [field: string]: unknown
}

export interface SubmitOptions {
  /** Default `block`. */
  readonly until?: 'block' | 'finalized'
  readonly signal?: AbortSignal
}

export interface Submitted {
  readonly blockNumber: number
  readonly blockHash: string
  readonly extrinsicHash: string
  /** Events of this call only. */
  readonly events: readonly LedgerEvent[]
}

/** Ordered: a later class may do what an earlier one may. */
export type NodeClass = 'Registered' | 'Idle' | 'Included' | 'Validator'

export interface Subnet {
  readonly id: number
  readonly friendlyId: number
  readonly name: string
  readonly repo: string
  readonly description: string
  /** Free text; Chorale keeps its subnet parameters here (`subnet-parameters.ts`). */
  readonly misc: string
  readonly state: 'Registered' | 'Active' | 'Paused'
  readonly startEpoch: number
  readonly owner: string
  /** Offset of the subnet's epochs: subnet epoch = (block - slot) / epochBlocks. Undefined before it has one. */
  readonly slot: number | undefined
  readonly minStake: bigint
  readonly maxStake: bigint
  readonly delegateStakeBalance: bigint
  readonly reputation: bigint
}

export interface SubnetNode {
  readonly id: number
  readonly coldkey: string
  readonly hotkey: string
  readonly peerId: string
  readonly bootnodePeerId: string | undefined
  readonly clientPeerId: string | undefined
  readonly class: NodeClass
  /** First subnet epoch in which the class counts. */
  readonly startEpoch: number
  readonly stake: bigint
  readonly reputation: bigint
  /** Waits in the registration queue. */
  readonly queued: boolean
}

export interface Consensus {
  /** Node id of the proposer. */
  readonly proposer: number
  readonly block: number
  readonly scores: readonly { readonly nodeId: number; readonly score: bigint }[]
  /** Node ids that may attest. */
  readonly validators: readonly number[]
  /** Node ids that attested, the proposer included. */
  readonly attestors: readonly number[]
  readonly args: Uint8Array | undefined
}

export interface Unbonding {
  readonly block: number
  readonly amount: bigint
}

export interface DelegateStake {
  readonly shares: bigint
  readonly balance: bigint
}

/** A fault proof on its way: proposed, then challenged and voted on, or settled unchallenged. */
export interface Dispute {
  readonly id: number
  readonly subnetId: number
  readonly plaintiff: number
  readonly defendant: number
  readonly startBlock: number
  readonly challengeBlock: number | undefined
  readonly yay: readonly number[]
  readonly nay: readonly number[]
  /** SHA-256 of the evidence (`attest/fault-proof.ts`). */
  readonly evidence: Uint8Array
  readonly outcome: 'open' | 'upheld' | 'dismissed' | 'cancelled' | 'no-quorum'
}
