import { ChoraleError } from '../errors.ts'
import { encodeFrame } from '../protocol/frame.ts'
import { MAX_RECEIPT_BYTES, MAX_RECEIPT_STEPS } from '../protocol/limits.ts'
import type { Ack, Rollback, Step } from '../protocol/messages.ts'
import {
  encodeReceiptBody,
  encodeReceiptPayload,
  type Receipt,
  receiptSignedBytes,
} from '../protocol/receipts.ts'
import { encodeSigned } from '../protocol/signed.ts'
import {
  DIGEST_BYTES,
  firstLink,
  isHanded,
  linkedSteps,
  packSteps,
  type StepDigest,
} from '../protocol/step-chain.ts'
import type { Digest } from './digest.ts'
import type { Ed25519 } from './ed25519.ts'
import type { Identity } from './identity.ts'
import type { AdmittedOpening } from './opening-guard.ts'
import { createReceiptAcks, type ReceiptFate } from './receipt-acks.ts'
import type { ReceiptStore } from './receipt-store.ts'

/** The receipts of one session on the server that gives them. */
export interface ServedReceipts {
  /** Notes a step whose output was handed to the stream, and the bytes of both. Works behind the caller's back. */
  step(step: Step, input: Uint8Array, output: Uint8Array): void
  rollback(message: Rollback): void
  /** Notes tokens that another server computed; `input` is undefined where it is not known what went in. */
  handed(step: Pick<Step, 'seq' | 'position' | 'tokens'>, input: Uint8Array | undefined): void
  /** Takes the client's signature. */
  ack(message: Ack): void
  /** Signs what is left, and keeps all. Resolves when the client agreed, or after a second when `tell`. */
  finish(tell: boolean): Promise<void>
}

export interface ServedReceiptsOptions {
  readonly identity: Identity
  readonly digest: Digest
  readonly ed25519: Ed25519
  readonly opening: AdmittedOpening
  /** Of every receipt. */
  readonly facts: Pick<Receipt, 'engine' | 'numericMode'>
  /** Tokens between two receipts, as the subnet wants it now. */
  readonly everyTokens: () => number
  readonly post: (make: () => Uint8Array) => void
  readonly store: Pick<ReceiptStore, 'add'> | undefined
  readonly now?: () => number
  /** Counts what becomes of each receipt. */
  readonly onFate?: (fate: ReceiptFate) => void
  /** The client does not keep its side; the session ends. */
  readonly onTrouble: (error: ChoraleError) => void
}

/** Receipts that wait for the client's signature before the next one is put off: it has more to read than to say. */
const MANY_UNACKNOWLEDGED = 8
/** How long a receipt may wait for it: who does not sign gets no more work. */
const ACK_PATIENCE_MS = 30_000
/** How long a closed session's stream is kept for the client's last signature. */
const LAST_ACK_MS = 1_000
const NOTHING = new Uint8Array(DIGEST_BYTES)

/** A step that was answered, or a rollback, to be hashed. */
type Noted = {
  readonly step: Pick<Step, 'seq' | 'position' | 'tokens'>
  readonly input?: Uint8Array | undefined
  /** Undefined for what was not computed here. */
  readonly output?: Uint8Array | undefined
}

/**
 * No receipts yet: the first one comes after the first step (the prompt), then one every `everyTokens` tokens, and the
 * last one at the end. Hashing and signing are done after the output was sent.
 */
export function createServedReceipts(options: ServedReceiptsOptions): ServedReceipts {
  const { identity, digest, ed25519, opening, store, onTrouble } = options
  const now = options.now ?? Date.now
  const acks = createReceiptAcks({
    client: opening.opening.client,
    ed25519,
    keep: (entry) => store?.add(entry),
    onTrouble,
    ...(options.onFate && { onFate: options.onFate }),
  })
  let steps: StepDigest[] = []
  let fresh = 0
  let chain = firstLink(opening.body)
  let sequence = 0
  let position = 0
  let prefilled = 0
  let decoded = 0
  let lastIssued = 0
  const noted: Noted[] = []
  /** Resolves when all that was noted is in a receipt, or waits for the next one; undefined when it is so now. */
  let tail: Promise<void> | undefined
  let finishing: Promise<void> | undefined

  const later = (one: Noted): void => {
    noted.push(one)
    // One turn for all that come while it lasts.
    tail ??= drain()
  }

  const drain = async (): Promise<void> => {
    // The output goes out before this thread hashes.
    await Promise.resolve()
    try {
      for (let one = noted.shift(); one; one = noted.shift()) {
        const { seq, position: at, tokens } = one.step
        const input = one.input ? digest(one.input) : NOTHING
        const output = one.output ? digest(one.output) : NOTHING
        note({
          seq,
          position: at,
          tokens,
          input: input instanceof Uint8Array ? input : await input,
          output: output instanceof Uint8Array ? output : await output,
        })
        if (due()) await issue(false)
      }
    } catch (error) {
      onTrouble(
        error instanceof ChoraleError ? error : new ChoraleError('internal', String(error), { cause: error }),
      )
    } finally {
      tail = undefined
    }
  }

  const note = (step: StepDigest): void => {
    steps.push(step)
    position = step.position + step.tokens
    if (isHanded(step)) return
    fresh += step.tokens
    if (step.tokens > 1) prefilled += step.tokens
    else decoded += step.tokens
  }

  const issue = async (final: boolean): Promise<void> => {
    const packed = packSteps(steps)
    steps = []
    fresh = 0
    const previous = chain
    chain = await digest(linkedSteps(previous, packed))
    // A clock that was set back must not make receipts that contradict each other.
    lastIssued = Math.max(lastIssued, now())
    const { session, client, server, modelId, start, end } = opening.opening
    const body = encodeReceiptBody({
      session,
      client,
      server,
      modelId,
      start,
      end,
      ...options.facts,
      sequence,
      final,
      position,
      prefilled,
      decoded,
      previous,
      chain,
      issuedAt: lastIssued,
    })
    const signature = await ed25519.sign(identity, receiptSignedBytes(body))
    const signed = encodeSigned({ body, signature }, 'receipt', MAX_RECEIPT_BYTES)
    const entry = { signed, steps: packed, ...(sequence === 0 && { opening: opening.signed }) }
    acks.add({ sequence, final, body, entry, at: lastIssued })
    sequence++
    options.post(() => encodeFrame({ type: 'receipt' }, encodeReceiptPayload(entry)))
    if (lastIssued - (acks.oldestAt ?? lastIssued) > ACK_PATIENCE_MS) {
      throw new ChoraleError('protocol', `no signature on a receipt came for ${ACK_PATIENCE_MS} ms`, {
        field: 'ack',
      })
    }
  }

  const due = (): boolean =>
    steps.length >= MAX_RECEIPT_STEPS ||
    (acks.missing < MANY_UNACKNOWLEDGED && (fresh >= options.everyTokens() || sequence === 0))

  const finish = async (tell: boolean): Promise<void> => {
    // What is left where a hash failed, too.
    for (await tail; noted.length > 0; await tail) tail = drain()
    if (sequence > 0 || steps.length > 0) await issue(true).catch(() => undefined)
    if (tell) await acks.settled(LAST_ACK_MS)
    await acks.close()
  }

  return {
    step: (step, input, output) => later({ step, input, output }),
    rollback: ({ seq, position: at }) => later({ step: { seq, position: at, tokens: 0 } }),
    handed: (step, input) => later({ step, input }),
    // Not behind the steps that wait to be hashed: the client's word is about what was sent.
    ack: (message) => acks.take(message),
    finish: (tell) => {
      finishing ??= finish(tell)
      return finishing
    },
  }
}
