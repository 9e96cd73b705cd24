import { bytesToHex } from '@noble/hashes/utils.js'
import { ChoraleError, errorMessage } from '../errors.ts'
import { OPENING_SIGNATURE_CONTEXT } from './ids.ts'
import { MAX_OPENING_BYTES } from './limits.ts'
import { type Opening, parseOpening } from './opening.ts'
import type { StoredReceipt } from './receipt-file.ts'
import {
  ackSignedBytes,
  parseReceipt,
  type Receipt,
  receiptSignedBytes,
  type UnverifiedReceipt,
} from './receipts.ts'
import { parseSigned, signedBytes } from './signed.ts'
import { firstLink, foldSteps, isHanded, type StepDigest, unpackSteps } from './step-chain.ts'

/** Whether the key inside a peer id signed these bytes. */
export type VerifySignature = (peerId: string, bytes: Uint8Array, signature: Uint8Array) => Promise<boolean>

/** What one server did in one session, as far as the receipts that hold say. */
export interface SessionEvidence {
  /** 32 hex digits. */
  readonly session: string
  readonly client: string
  readonly server: string
  readonly modelId: string
  readonly start: number
  readonly end: number
  readonly engine: string
  readonly numericMode: string
  readonly receipts: number
  /** Receipts that the client agreed to: one that it signed covers those before it, by the chain. */
  readonly acknowledged: number
  /** From the signed opening to a final receipt, without a gap. */
  readonly complete: boolean
  readonly prefilled: number
  readonly decoded: number
  /** Milliseconds since the epoch. */
  readonly firstAt: number
  readonly lastAt: number
}

/** Why a receipt proves nothing, or what it proves against its signer. */
export interface ReceiptProblem {
  /** Number of the entry, from 0. */
  readonly entry: number
  readonly field: string
  readonly message: string
}

export interface ReceiptReport {
  readonly sessions: readonly SessionEvidence[]
  readonly problems: readonly ReceiptProblem[]
}

interface Checked {
  readonly entry: number
  readonly parsed: UnverifiedReceipt
  readonly steps: readonly StepDigest[]
  readonly acknowledged: boolean
  readonly opening: { readonly opening: Opening; readonly body: Uint8Array } | undefined
}

/**
 * Checks receipts offline: both signatures, the opening's, the hash chain over the steps, that numbers, times and
 * counts only grow, and that counts and position are those of the steps. A receipt with a problem counts for nothing,
 * and neither do those after it. NOT checked: that the hidden states behind the digests are right, or who has stake.
 */
export async function checkReceipts(
  entries: readonly StoredReceipt[],
  verify: VerifySignature,
): Promise<ReceiptReport> {
  const problems: ReceiptProblem[] = []
  const bySession = new Map<string, Checked[]>()
  for (const [entry, stored] of entries.entries()) {
    try {
      const checked = await checkEntry(stored, entry, verify)
      const { session, client, server } = checked.parsed.receipt
      const key = `${server} ${client} ${bytesToHex(session)}`
      bySession.set(key, [...(bySession.get(key) ?? []), checked])
    } catch (error) {
      problems.push(problemOf(entry, error))
    }
  }
  const sessions: SessionEvidence[] = []
  for (const found of bySession.values()) {
    const evidence = followSession(found, problems)
    if (evidence) sessions.push(evidence)
  }
  return { sessions, problems: problems.toSorted((a, b) => a.entry - b.entry) }
}

/** What one entry says by itself. @throws `protocol` naming the field. */
async function checkEntry(stored: StoredReceipt, entry: number, verify: VerifySignature): Promise<Checked> {
  const parsed = parseReceipt(stored)
  const { receipt, body } = parsed
  if (!(await verify(receipt.server, receiptSignedBytes(body), parsed.signature))) {
    throw wrong('signature', `the receipt is not signed by its server ${receipt.server}`)
  }
  if (stored.ack && !(await verify(receipt.client, ackSignedBytes(body), stored.ack))) {
    throw wrong('ack', `the agreement is not signed by the client ${receipt.client}`)
  }
  return {
    entry,
    parsed,
    steps: unpackSteps(stored.steps),
    acknowledged: stored.ack !== undefined,
    opening: stored.opening && (await checkSignedOpening(stored.opening, receipt, verify)),
  }
}

async function checkSignedOpening(bytes: Uint8Array, receipt: Receipt, verify: VerifySignature) {
  const { body, signature } = parseSigned(bytes, 'opening', MAX_OPENING_BYTES)
  const opening = parseOpening(body)
  for (const field of ['client', 'server', 'modelId', 'start', 'end'] as const) {
    if (opening[field] !== receipt[field]) {
      throw wrong('opening', `the opening's ${field} is ${opening[field]}, the receipt's ${receipt[field]}`)
    }
  }
  if (!equal(opening.session, receipt.session)) throw wrong('opening', 'the opening is of another session')
  if (!(await verify(opening.client, signedBytes(OPENING_SIGNATURE_CONTEXT, body), signature))) {
    throw wrong('opening', `the opening is not signed by the client ${opening.client}`)
  }
  return { opening, body }
}

/** A session's receipts in their order, up to the first that does not follow. */
function followSession(found: readonly Checked[], problems: ReceiptProblem[]): SessionEvidence | undefined {
  const inOrder = found.toSorted((a, b) => a.parsed.receipt.sequence - b.parsed.receipt.sequence)
  const good: Checked[] = []
  let acknowledged = 0
  let followed: FollowedReceipt | undefined
  for (const next of inOrder) {
    const last = good.at(-1)
    // The same receipt from both ends' files is one receipt.
    if (last && equal(last.parsed.body, next.parsed.body)) {
      if (next.acknowledged) acknowledged = good.length
      continue
    }
    try {
      followed = checkReceiptFollows(next.parsed, followed, next.opening?.body)
      good.push(next)
      if (next.acknowledged) acknowledged = good.length
    } catch (error) {
      problems.push(problemOf(next.entry, error))
      break
    }
  }
  const first = good[0]?.parsed.receipt
  const last = good.at(-1)?.parsed.receipt
  if (!first || !last) return undefined
  return {
    session: bytesToHex(first.session),
    client: first.client,
    server: first.server,
    modelId: first.modelId,
    start: first.start,
    end: first.end,
    engine: first.engine,
    numericMode: first.numericMode,
    receipts: good.length,
    acknowledged,
    complete: good[0]?.opening !== undefined && first.sequence === 0 && last.final,
    prefilled: last.prefilled,
    decoded: last.decoded,
    firstAt: first.issuedAt,
    lastAt: last.issuedAt,
  }
}

/** A receipt that was checked, and its last step's number. */
export interface FollowedReceipt {
  readonly receipt: Receipt
  readonly lastSeq: number
}

/**
 * Whether a receipt follows the one before it, or the opening, and says of its steps what they are. Pure; both ends of
 * a session check with it as receipts come. Where neither the one before nor the opening is known, only its own steps.
 * @throws `protocol` naming the field.
 */
export function checkReceiptFollows(
  { receipt, steps: packed }: UnverifiedReceipt,
  followed: FollowedReceipt | undefined,
  openingBody: Uint8Array | undefined,
): FollowedReceipt {
  const steps = unpackSteps(packed)
  const last = followed?.receipt
  if (last) checkSuccession(receipt, last)
  else if (openingBody && receipt.sequence !== 0) {
    throw wrong('sequence', `the first receipt of the session has number ${receipt.sequence}`)
  } else if (openingBody && !equal(receipt.previous, firstLink(openingBody))) {
    throw wrong('previous', 'the chain does not begin at the opening')
  }
  if (!equal(receipt.chain, foldSteps(receipt.previous, packed))) {
    throw wrong('chain', 'the chain is not the hash of its steps')
  }
  const known = last !== undefined || receipt.sequence === 0
  let position = last?.position ?? (known ? 0 : undefined)
  let seq = followed?.lastSeq ?? -1
  let [prefilled, decoded] = [last?.prefilled ?? 0, last?.decoded ?? 0]
  for (const step of steps) {
    if (step.seq <= seq) throw wrong('steps', `step ${step.seq} comes after step ${seq}`)
    if (position !== undefined && step.position > position) {
      throw wrong('steps', `step ${step.seq} starts at ${step.position}, beyond position ${position}`)
    }
    seq = step.seq
    position = step.position + step.tokens
    if (isHanded(step)) continue
    if (step.tokens > 1) prefilled += step.tokens
    else decoded += step.tokens
  }
  if (position !== undefined && receipt.position !== position) {
    throw wrong('position', `the receipt claims position ${receipt.position}, its steps end at ${position}`)
  }
  if (!known) return { receipt, lastSeq: seq }
  for (const [field, counted] of [
    ['prefilled', prefilled],
    ['decoded', decoded],
  ] as const) {
    if (receipt[field] !== counted) {
      throw wrong(field, `the receipt claims ${receipt[field]} ${field} tokens, its steps make ${counted}`)
    }
  }
  return { receipt, lastSeq: seq }
}

const CONSTANT = ['client', 'server', 'modelId', 'start', 'end', 'engine', 'numericMode'] as const

function checkSuccession(receipt: Receipt, last: Receipt): void {
  if (receipt.sequence === last.sequence) {
    throw wrong('sequence', `two different receipts have number ${receipt.sequence}`)
  }
  if (receipt.sequence !== last.sequence + 1) {
    throw wrong(
      'sequence',
      `receipt ${receipt.sequence} comes after ${last.sequence}: those between are missing`,
    )
  }
  if (last.final) throw wrong('final', `receipt ${receipt.sequence} comes after the final one`)
  for (const field of CONSTANT) {
    if (receipt[field] !== last[field]) {
      throw wrong(field, `${field} changed from ${last[field]} to ${receipt[field]}`)
    }
  }
  if (!equal(receipt.previous, last.chain)) {
    throw wrong('previous', 'the chain does not go on where the last receipt ended')
  }
  if (receipt.issuedAt < last.issuedAt) {
    throw wrong('issuedAt', `the receipt is ${last.issuedAt - receipt.issuedAt} ms older than the one before`)
  }
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i])
}

function wrong(field: string, message: string): ChoraleError {
  return new ChoraleError('protocol', message, { field })
}

function problemOf(entry: number, error: unknown): ReceiptProblem {
  const field = error instanceof ChoraleError ? error.field : undefined
  return { entry, field: field ?? 'receipt', message: errorMessage(error) }
}
