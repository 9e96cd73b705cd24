import { ChoraleError } from '../errors.ts'
import { encodeFrame } from '../protocol/frame.ts'
import type { Opening } from '../protocol/opening.ts'
import { checkReceiptFollows, type FollowedReceipt } from '../protocol/receipt-check.ts'
import {
  ackSignedBytes,
  parseReceiptPayload,
  type Receipt,
  receiptSignedBytes,
  type UnverifiedReceipt,
} from '../protocol/receipts.ts'
import { DIGEST_BYTES, type StepDigest, unpackSteps } from '../protocol/step-chain.ts'
import type { Digest } from './digest.ts'
import type { Ed25519 } from './ed25519.ts'
import type { Identity } from './identity.ts'
import type { ReceiptStore } from './receipt-store.ts'

/** The receipts of one session at the client that gets them: each is compared with what went over the wire. */
export interface RemoteReceipts {
  /** A step was numbered. */
  begin(seq: number, position: number, tokens: number): void
  /** Its input, as on the wire, is known: sent by this client, or by the server before. */
  input(seq: number, bytes: Uint8Array): void
  /** Its output came. */
  output(seq: number, bytes: Uint8Array): void
  /** The server got these tokens from another one. */
  handed(seq: number, position: number, tokens: number): void
  /** Steps from `seq` on were given up: their inputs may never be known. */
  forget(seq: number): void
  /** Takes RECEIPT's payload. @throws `protocol`. */
  receive(payload: Uint8Array): void
  /** Whether a step was answered, so that a final receipt will come. */
  readonly expected: boolean
  /** Resolves when the final receipt was agreed to. */
  readonly final: Promise<void>
}

export interface RemoteReceiptsOptions {
  readonly identity: Identity
  readonly digest: Digest
  readonly ed25519: Ed25519
  readonly opening: Opening
  readonly openingBody: Uint8Array
  /** The signed opening, kept with the first receipt. */
  readonly openingSigned: Uint8Array
  /** What the server said it computes with. */
  readonly engine: () => string | undefined
  readonly post: (make: () => Uint8Array) => void
  readonly store: ReceiptStore | undefined
  /** Counts receipts that came. */
  readonly onTaken?: (result: 'agreed' | 'wrong') => void
  /** The server's receipts are wrong, or don't come: the session ends. */
  readonly onTrouble: (error: ChoraleError) => void
}

interface Known {
  readonly position: number
  readonly tokens: number
  /** Undefined while it is not known. */
  input: Uint8Array | Promise<Uint8Array> | undefined
  /** Called when it is, or when the step was given up. */
  onInput: (() => void) | undefined
  givenUp: boolean
  output: Uint8Array | Promise<Uint8Array> | undefined
}

/** Steps without a receipt: a server that gives none gets no more work. */
const MAX_WITHOUT_RECEIPT = 1024
/** How long a receipt waits for an input that comes over another server. */
const INPUT_MS = 2_000

/** No receipts yet. */
export function createRemoteReceipts(options: RemoteReceiptsOptions): RemoteReceipts {
  const { identity, digest, ed25519, opening, onTrouble } = options
  const known = new Map<number, Known>()
  const final = Promise.withResolvers<void>()
  let followed: FollowedReceipt | undefined
  let expected = false
  let tail: Promise<void> = Promise.resolve()

  const take = async (unverified: UnverifiedReceipt): Promise<void> => {
    const { receipt, body, signature, signed, steps } = unverified
    checkFacts(receipt, opening, options.engine())
    const next = checkReceiptFollows(unverified, followed, options.openingBody)
    for (const step of unpackSteps(steps)) {
      await compare(step, known.get(step.seq))
      known.delete(step.seq)
    }
    for (const [seq, { output }] of known) {
      if (seq > next.lastSeq) continue
      if (output !== undefined) throw wrong('steps', `step ${seq} is left out`)
      known.delete(seq)
    }
    if (!(await ed25519.verify(receipt.server, receiptSignedBytes(body), signature))) {
      throw wrong('signature', 'it is not signed by the server')
    }
    followed = next
    const agreed = await ed25519.sign(identity, ackSignedBytes(body))
    options.post(() => encodeFrame({ type: 'ack', sequence: receipt.sequence, signature: agreed }))
    options.store?.add({
      signed,
      steps,
      ack: agreed,
      ...(receipt.sequence === 0 && { opening: options.openingSigned }),
    })
    options.onTaken?.('agreed')
    if (receipt.final) final.resolve()
  }

  return {
    begin: (seq, position, tokens) => {
      known.set(seq, {
        position,
        tokens,
        input: undefined,
        onInput: undefined,
        givenUp: false,
        output: undefined,
      })
      if (known.size > MAX_WITHOUT_RECEIPT) {
        onTrouble(new ChoraleError('protocol', `the server gave no receipt for ${known.size} steps`))
      }
    },
    input: (seq, bytes) => {
      const step = known.get(seq)
      if (step === undefined || step.givenUp || step.input !== undefined) return
      step.input = digest(bytes)
      step.onInput?.()
    },
    output: (seq, bytes) => {
      expected = true
      const step = known.get(seq)
      if (step) step.output = digest(bytes)
    },
    handed: (seq, position, tokens) => {
      expected = true
      // What went in, the other server said: an audit of this one asks for it.
      known.set(seq, {
        position,
        tokens,
        input: undefined,
        onInput: undefined,
        givenUp: true,
        output: new Uint8Array(DIGEST_BYTES),
      })
    },
    forget: (from) => {
      for (const [seq, step] of known) {
        if (seq < from) continue
        step.givenUp = true
        step.onInput?.()
      }
    },
    receive: (payload) => {
      const unverified = parseReceiptPayload(payload)
      tail = tail
        .then(() => take(unverified))
        .catch((error: unknown) => {
          options.onTaken?.('wrong')
          onTrouble(
            error instanceof ChoraleError
              ? new ChoraleError('protocol', `receipt ${unverified.receipt.sequence}: ${error.message}`, {
                  ...(error.field !== undefined && { field: error.field }),
                })
              : new ChoraleError('internal', String(error), { cause: error }),
          )
        })
    },
    get expected() {
      return expected
    },
    final: final.promise,
  }
}

/** What the server says of the session must be what was opened. @throws `protocol` naming the field. */
function checkFacts(receipt: Receipt, opening: Opening, engine: string | undefined): void {
  for (const field of ['client', 'server', 'modelId', 'start', 'end'] as const) {
    if (receipt[field] !== opening[field]) {
      throw wrong(field, `${field} is ${receipt[field]}, the session's is ${opening[field]}`)
    }
  }
  if (receipt.session.some((byte, i) => byte !== opening.session[i])) {
    throw wrong('session', 'it is of another session')
  }
  if (receipt.engine !== engine) throw wrong('engine', `engine is ${receipt.engine}, it said ${engine}`)
}

async function compare(step: StepDigest, known: Known | undefined): Promise<void> {
  const { seq } = step
  if (known === undefined || known.output === undefined)
    throw wrong('steps', `step ${seq} was never answered`)
  if (known.position !== step.position || known.tokens !== step.tokens) {
    throw wrong(
      'steps',
      `step ${seq} is ${step.tokens} tokens at ${step.position}, asked were ${known.tokens} at ${known.position}`,
    )
  }
  if (!equal(await known.output, step.output))
    throw wrong('steps', `the output of step ${seq} is another one`)
  if (known.input === undefined && !known.givenUp) await inputOf(known)
  if (known.input && !equal(await known.input, step.input))
    throw wrong('steps', `the input of step ${seq} is another one`)
}

/** Waits for it, but not long: then the server's word stands alone for that input. */
async function inputOf(step: Known): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined
  await new Promise<void>((resolve) => {
    step.onInput = resolve
    timer = setTimeout(resolve, INPUT_MS)
  })
  clearTimeout(timer)
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
  return a.every((byte, i) => byte === b[i])
}

function wrong(field: string, message: string): ChoraleError {
  return new ChoraleError('protocol', message, { field })
}
