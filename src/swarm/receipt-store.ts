import { joinBytes } from '../bytes.ts'
import { encodeStoredReceipt, RECEIPT_FILE_MAGIC, type StoredReceipt } from '../protocol/receipt-file.ts'

/** Port: where a peer keeps the receipts of its sessions. Bounded; the oldest go first. */
export interface ReceiptStore {
  /** Keeps a receipt. Never throws and never waits: evidence must not hold an answer up. */
  add(receipt: StoredReceipt): void
  /** What is kept, oldest first. */
  entries(): Promise<readonly StoredReceipt[]>
  /** Waits until all is written. */
  close(): Promise<void>
}

/** Receipts kept in memory: about 10 MiB, and a quarter of a million decoded tokens. */
const MAX_RECEIPTS = 4096

/** A store that is gone with the process. */
export function memoryReceiptStore(maxReceipts: number = MAX_RECEIPTS): ReceiptStore {
  const kept: StoredReceipt[] = []
  return {
    add: (receipt) => {
      kept.push(receipt)
      if (kept.length > maxReceipts) kept.splice(0, kept.length - maxReceipts)
    },
    entries: async () => [...kept],
    close: async () => undefined,
  }
}

/** What `store` keeps as one file that `chorale verify` reads. */
export async function exportReceipts(store: ReceiptStore): Promise<Uint8Array> {
  return joinBytes([RECEIPT_FILE_MAGIC, ...(await store.entries()).map(encodeStoredReceipt)])
}
