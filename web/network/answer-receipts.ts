import { signal } from '@preact/signals'
import { parseReceipt } from '../../src/protocol/receipts.ts'
import type { StoredReceipt } from '../../src/protocol/receipt-file.ts'
import { exportReceipts, memoryReceiptStore, type ReceiptStore } from '../../src/swarm/receipt-store.ts'

/** What one answer's servers signed; in memory, until the page is closed. */
interface AnswerReceipts {
  readonly entries: readonly StoredReceipt[]
  /** Peer ids. */
  readonly servers: ReadonlySet<string>
}

/** Answers whose receipts are kept: the newest ones. */
const MAX_ANSWERS = 64
/** Receipts of one answer: 64 servers with 8,192 tokens each. */
const MAX_RECEIPTS = 16_384

const kept = signal<ReadonlyMap<string, AnswerReceipts>>(new Map())
/** Which answer a session belongs to; its last receipt may come when the next answer runs. */
const answerOfSession = new Map<string, string>()
let running: string | undefined

/** From now on new sessions belong to this answer; answers of one tab take turns. */
export function beginReceipts(answer: string): void {
  running = answer
}

/** Takes the receipts that the tab's sessions get: compared with what went over the wire, and signed. */
export const tabReceipts: ReceiptStore = {
  add: (receipt) => {
    const { session, server } = parseReceipt(receipt).receipt
    const key = session.join()
    const answer = answerOfSession.get(key) ?? running
    if (answer === undefined) return
    answerOfSession.set(key, answer)
    const before = kept.value.get(answer)
    if ((before?.entries.length ?? 0) >= MAX_RECEIPTS) return
    const next = new Map(kept.value)
    next.set(answer, {
      entries: [...(before?.entries ?? []), receipt],
      servers: new Set([...(before?.servers ?? []), server]),
    })
    for (const oldest of next.keys()) {
      if (next.size <= MAX_ANSWERS) break
      next.delete(oldest)
      for (const [old, owner] of answerOfSession) if (owner === oldest) answerOfSession.delete(old)
    }
    kept.value = next
  },
  entries: async () => [...kept.value.values()].flatMap(({ entries }) => entries),
  close: async () => undefined,
}

/** Peers that signed receipts of an answer; a component that reads it follows it. */
export function signersOf(answer: string): readonly string[] {
  return [...(kept.value.get(answer)?.servers ?? [])]
}

/** An answer's receipts as a file that `chorale verify` reads. */
export async function receiptFileOf(answer: string): Promise<Uint8Array<ArrayBuffer>> {
  const store = memoryReceiptStore(MAX_RECEIPTS)
  for (const entry of kept.value.get(answer)?.entries ?? []) store.add(entry)
  return new Uint8Array(await exportReceipts(store))
}
