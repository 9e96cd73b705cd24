import { sha256 } from '@noble/hashes/sha2.js'
import { bytesToHex } from '@noble/hashes/utils.js'

/** What the duties need of signed receipts and of peers' keys; who brings them checks signatures. */

/** Whether the key inside `peerId` signed `bytes`. False for anything unreadable; never throws. */
export type VerifySignature = (
  peerId: string,
  bytes: Uint8Array,
  signature: Uint8Array,
) => boolean | Promise<boolean>

/** Signs with this peer's own key. */
export type SignBytes = (bytes: Uint8Array) => Uint8Array | Promise<Uint8Array>

/** What a server committed to, read from a receipt. */
export interface WorkReceipt {
  /** Session id, lower-case hex. */
  readonly session: string
  /** Peer ids. */
  readonly server: string
  readonly client: string
  /** Peer id of whoever answers for the client on the ledger: its sponsor, or itself. */
  readonly payer: string
  /** Model id. */
  readonly model: string
  readonly start: number
  /** Exclusive. */
  readonly end: number
  /** Numeric mode of the server's engine (`margins.ts`). */
  readonly mode: string
  /** Tokens so far in the session, by kind. */
  readonly prefilled: number
  readonly decoded: number
  /** Hash over the session's steps so far (`step-chain.ts`). */
  readonly chain: Uint8Array
  /** Ms since the epoch, by the server's clock. */
  readonly time: number
  /** The session's last receipt. */
  readonly final: boolean
  /** Whether the client signed it too. */
  readonly countersigned: boolean
}

/** Reads a receipt and checks its bounds and every signature it carries. @throws `protocol`. */
export type OpenReceipt = (bytes: Uint8Array) => Promise<WorkReceipt>

/** Content address of anything published: SHA-256 in lower-case hex. */
export function contentHash(bytes: Uint8Array): string {
  return bytesToHex(sha256(bytes))
}
