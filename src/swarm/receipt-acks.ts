import { ChoraleError } from '../errors.ts'
import type { Ack } from '../protocol/messages.ts'
import type { StoredReceipt } from '../protocol/receipt-file.ts'
import { ackSignedBytes } from '../protocol/receipts.ts'
import type { Ed25519 } from './ed25519.ts'

/** A receipt that was sent to the client. */
export interface SentReceipt {
  readonly sequence: number
  readonly final: boolean
  readonly body: Uint8Array
  readonly entry: StoredReceipt
  /** When it was issued, milliseconds since the epoch. */
  readonly at: number
}

/** What became of a receipt at the server that gave it; a label of the metrics. */
export type ReceiptFate = 'agreed' | 'covered' | 'unsigned' | 'forged'

export interface ReceiptAcksOptions {
  /** Peer id of who must sign. */
  readonly client: string
  readonly ed25519: Ed25519
  /** Keeps a receipt: with the client's signature only where that was checked and is right. */
  readonly keep: (entry: StoredReceipt) => void
  readonly onTrouble: (error: ChoraleError) => void
  /** Counts each receipt once, and a wrong signature besides. */
  readonly onFate?: (fate: ReceiptFate) => void
}

/**
 * The client's agreement to the receipts of one session.
 *
 * Checking a signature costs as much as hashing a hundred tokens' hidden states, and a receipt's chain covers all steps
 * before it: one good signature agrees to every earlier receipt too. So the first receipt's signature is checked at
 * once, then every `CHECKED_EVERY`th and the final one's, and when a session ends otherwise that of the newest receipt
 * that has one. Bound: a client that signs wrongly is found out after at most `CHECKED_EVERY` receipts (128 tokens,
 * unless the subnet says otherwise) or at the end, whichever is first, and leaves at most `CHECKED_EVERY - 1` receipts
 * without agreement; one that signs nothing is left with `sent` and told by `oldestAt`. A signature that was not
 * checked is never kept, handed out or counted: those receipts are kept as the server's own word.
 */
export interface ReceiptAcks {
  /** A receipt was sent. */
  add(receipt: SentReceipt): void
  /** Takes the client's signature. Errors go to `onTrouble`. */
  take(message: Ack): void
  /** Receipts without a signature. */
  readonly missing: number
  /** When the oldest of them was issued; undefined when there is none. */
  readonly oldestAt: number | undefined
  /** Resolves when no signature is missing or being checked, or after so many milliseconds. */
  settled(ms: number): Promise<void>
  /** The session is over: checks what is left, and keeps the receipts that nobody signed. */
  close(): Promise<void>
}

/** Signatures between two that are checked, and one of these. */
export const CHECKED_EVERY = 4

type Signed = SentReceipt & { readonly signature: Uint8Array }

/** None sent yet. */
export function createReceiptAcks(options: ReceiptAcksOptions): ReceiptAcks {
  const { client, ed25519, keep, onFate, onTrouble } = options
  const sent = new Map<number, SentReceipt>()
  /** Signed, and not looked at. */
  let unchecked: Signed[] = []
  const checks = new Set<Promise<void>>()
  let onSettled: (() => void) | undefined

  const isGood = ({ body, signature }: Signed): boolean | Promise<boolean> =>
    ed25519.verify(client, ackSignedBytes(body), signature)

  /** A good signature agrees to all receipts before its own. */
  const agreed = ({ entry, sequence, signature }: Signed): void => {
    keep({ ...entry, ack: signature })
    onFate?.('agreed')
    unchecked = unchecked.filter((other) => {
      if (other.sequence < sequence) onFate?.('covered')
      return other.sequence > sequence
    })
  }

  const settle = (): void => {
    if (sent.size === 0 && checks.size === 0) onSettled?.()
  }

  const check = async (signed: Signed): Promise<void> => {
    if (await isGood(signed)) return agreed(signed)
    keep(signed.entry)
    onFate?.('forged')
    throw wrong(`the client's signature on receipt ${signed.sequence} is wrong`, 'signature')
  }

  return {
    add: (receipt) => {
      sent.set(receipt.sequence, receipt)
    },
    take: ({ sequence, signature }) => {
      const found = sent.get(sequence)
      if (found === undefined) {
        return onTrouble(wrong(`no receipt ${sequence} waits for a signature`, 'sequence'))
      }
      sent.delete(sequence)
      // The frame's memory is used again.
      const signed = { ...found, signature: signature.slice() }
      if (sequence > 0 && !found.final && unchecked.length + 1 < CHECKED_EVERY) {
        unchecked.push(signed)
        keep(found.entry)
        return settle()
      }
      const checking = check(signed)
        .catch((error: unknown) => {
          onTrouble(error instanceof ChoraleError ? error : new ChoraleError('internal', String(error)))
        })
        .finally(() => {
          checks.delete(checking)
          settle()
        })
      checks.add(checking)
    },
    get missing() {
      return sent.size
    },
    get oldestAt() {
      const [oldest] = sent.values()
      return oldest?.at
    },
    settled: async (ms) => {
      if (sent.size === 0 && checks.size === 0) return
      let timer: ReturnType<typeof setTimeout> | undefined
      await new Promise<void>((resolve) => {
        onSettled = resolve
        timer = setTimeout(resolve, ms)
      })
      clearTimeout(timer)
    },
    close: async () => {
      for (const { entry } of sent.values()) {
        keep(entry)
        onFate?.('unsigned')
      }
      sent.clear()
      await Promise.all(checks)
      for (let last = unchecked.pop(); last !== undefined; last = unchecked.pop()) {
        if (await isGood(last)) agreed(last)
        else {
          onFate?.('forged')
          onTrouble(wrong(`the client's signature on receipt ${last.sequence} is wrong`, 'signature'))
        }
      }
    },
  }
}

function wrong(message: string, field: string): ChoraleError {
  return new ChoraleError('protocol', message, { field })
}
