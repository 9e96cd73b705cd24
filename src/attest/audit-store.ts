import { bytesToHex } from '@noble/hashes/utils.js'
import { joinBytes } from '../bytes.ts'
import type { StoredReceipt } from '../protocol/receipt-file.ts'
import { parseReceipt } from '../protocol/receipts.ts'

/**
 * What a server keeps of its sessions so that an accountant can re-run them: the signed opening, the receipts, and the
 * bytes that went in and came out, as they travelled. Bounded: the oldest sessions go first.
 *
 * These bytes are hidden states of what people wrote: they stay in memory, and go to chosen accountants only.
 */
export interface AuditStore {
  /** A session begins. `session` is its id as lower-case hex. */
  open(session: string, opening: Uint8Array): void
  /** One step; the bytes are copied. A rollback has no tokens and no bytes. Sessions that are not known are ignored. */
  step(session: string, step: AuditStep): void
  /** A receipt, in any order; again when the client's agreement arrives. Others' receipts are ignored. */
  receipt(receipt: StoredReceipt): void
  /**
   * The hidden states of tokens [from, to) that went in, as far as they are kept without a gap, as they travelled; undefined
   * when the session is gone. For servers that take it over, whose own audits begin with them.
   */
  inputs(session: string, from: number, to: number): Uint8Array | undefined
  /** What is kept of a session; undefined when it is gone. */
  get(session: string): AuditedSession | undefined
  /** Ids of what is kept, oldest first. */
  sessions(): readonly string[]
  readonly bytes: number
}

/** One step with its bytes, in the order of `seq`. */
export interface AuditStep {
  readonly seq: number
  readonly position: number
  /** 0 for a rollback. */
  readonly tokens: number
  readonly input: Uint8Array
  readonly output: Uint8Array
}

export interface AuditedSession {
  readonly opening: Uint8Array
  /** By sequence, without a gap from 0. */
  readonly receipts: readonly StoredReceipt[]
  /** From the first step on; later ones are missing when `complete` is false. */
  readonly steps: readonly AuditStep[]
  readonly complete: boolean
}

export interface AuditStoreOptions {
  /** Default 64 MiB: about 13,000 tokens of a model of hidden size 576 in float32. */
  readonly maxBytes?: number
  /** Steps of one session beyond this are not kept: one long session must not push all others out. Default 16 MiB. */
  readonly maxSessionBytes?: number
}

const MAX_BYTES = 64 * 2 ** 20
const MAX_SESSION_BYTES = 16 * 2 ** 20
/** Sessions without steps cost little each, and must not add up. */
const MAX_SESSIONS = 1_024

interface Kept {
  readonly opening: Uint8Array
  readonly receipts: Map<number, StoredReceipt>
  readonly steps: AuditStep[]
  complete: boolean
  bytes: number
}

/** An empty store. */
export function createAuditStore(options: AuditStoreOptions = {}): AuditStore {
  const { maxBytes = MAX_BYTES, maxSessionBytes = MAX_SESSION_BYTES } = options
  /** Oldest first. */
  const sessions = new Map<string, Kept>()
  let total = 0

  function drop(session: string, kept: Kept): void {
    sessions.delete(session)
    total -= kept.bytes
  }

  function makeRoom(bytes: number, keep: string): void {
    for (const [session, kept] of sessions) {
      if (total + bytes <= maxBytes) return
      if (session !== keep) drop(session, kept)
    }
  }

  return {
    open(session, opening) {
      const known = sessions.get(session)
      if (known !== undefined) drop(session, known)
      for (const [oldest, kept] of sessions) {
        if (sessions.size < MAX_SESSIONS) break
        drop(oldest, kept)
      }
      sessions.set(session, {
        opening: opening.slice(),
        receipts: new Map(),
        steps: [],
        complete: true,
        bytes: 0,
      })
    },
    step(session, step) {
      const kept = sessions.get(session)
      if (kept === undefined || !kept.complete) return
      const size = step.input.length + step.output.length
      if (kept.bytes + size > Math.min(maxSessionBytes, maxBytes)) {
        kept.complete = false
        return
      }
      makeRoom(size, session)
      kept.steps.push({ ...step, input: step.input.slice(), output: step.output.slice() })
      kept.bytes += size
      total += size
    },
    receipt(receipt) {
      const { session, sequence } = parseReceipt(receipt).receipt
      sessions.get(bytesToHex(session))?.receipts.set(sequence, receipt)
    },
    inputs(session, from, to) {
      const kept = sessions.get(session)
      return kept && joinBytes(inputRows(kept.steps, from, to))
    },
    get(session) {
      const kept = sessions.get(session)
      if (kept === undefined) return undefined
      const { complete, opening, receipts, steps } = kept
      const inOrder = [...receipts].toSorted(([a], [b]) => a - b)
      return { opening, steps, complete, receipts: inOrder.map(([, receipt]) => receipt) }
    },
    sessions: () => [...sessions.keys()],
    get bytes() {
      return total
    },
  }
}

/** Rows of tokens [from, to), as the steps with their rollbacks left them. */
function inputRows(steps: readonly AuditStep[], from: number, to: number): Uint8Array[] {
  const present: AuditStep[] = []
  for (const step of steps) {
    // What a step wrote over counts no more.
    for (let last = present.at(-1); last && last.position >= step.position; last = present.at(-1))
      present.pop()
    if (step.tokens > 0) present.push(step)
  }
  const rows: Uint8Array[] = []
  let next = from
  for (const [i, { position, tokens, input }] of present.entries()) {
    const rowBytes = input.length / tokens
    const end = Math.min(position + tokens, present[i + 1]?.position ?? to, to)
    if (position > next || end <= next) continue
    rows.push(input.subarray((next - position) * rowBytes, (end - position) * rowBytes))
    next = end
  }
  return rows
}
