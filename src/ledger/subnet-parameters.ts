import type { NodeClass } from './ledger.ts'

/** What a peer may be asked to prove before it is served. */
export type StakeAction = 'connect' | 'relay' | 'directory' | 'gossip' | 'serve' | 'infer' | 'sponsor'

/** Subnet parameters as read from the ledger (JSON in the subnet's `misc`); they change without restarting any peer. */
export interface SubnetParameters {
  /** Least class of a node for each action. */
  readonly minClass: Readonly<Record<StakeAction, NodeClass>>
  /** Least stake for each action, in the smallest unit; undefined = the subnet's own minimum. */
  readonly minStake: Readonly<Partial<Record<StakeAction, bigint>>>
  /** How long what was last known counts while the ledger is unreachable; afterwards nobody is admitted. */
  readonly graceMs: number
  /** Decoded tokens between two receipts. */
  readonly receiptTokens: number
  /** Sessions and messages a peer may ask for: `base` for anybody admitted, growing with stake ÷ minimum stake up to `max`. */
  readonly rate: {
    readonly sessionsPerMinute: { readonly base: number; readonly max: number }
    readonly messagesPerSecond: { readonly base: number; readonly max: number }
  }
  /** Windows inside a subnet epoch, in parts per thousand of its length. */
  readonly epoch: {
    readonly proposeFrom: number
    readonly proposeUntil: number
    readonly attestUntil: number
    /** How often a validator that disagrees looks again. */
    readonly attestTries: number
  }
  /** Weights of the score's parts, in parts per thousand. */
  readonly score: {
    readonly blocks: number
    readonly work: number
    readonly uptime: number
    readonly audits: number
  }
  /** A policy program that replaces the score's formula: SHA-256 of its wasm, its gas and memory limits. */
  readonly policy?: { readonly sha256: string; readonly gas: number; readonly pages: number }
  /** Accountants chosen each epoch. */
  readonly accountants: number
}

/** What counts where the subnet says nothing. */
export const DEFAULT_SUBNET_PARAMETERS: SubnetParameters = {
  minClass: {
    connect: 'Registered',
    relay: 'Registered',
    directory: 'Idle',
    gossip: 'Idle',
    serve: 'Idle',
    infer: 'Registered',
    sponsor: 'Idle',
  },
  minStake: {},
  graceMs: 120_000,
  receiptTokens: 32,
  rate: {
    sessionsPerMinute: { base: 60, max: 600 },
    messagesPerSecond: { base: 500, max: 5_000 },
  },
  epoch: { proposeFrom: 0, proposeUntil: 500, attestUntil: 950, attestTries: 3 },
  score: { blocks: 500, work: 300, uptime: 100, audits: 100 },
  accountants: 2,
}
