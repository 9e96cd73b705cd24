import { sha256 } from '@noble/hashes/sha2.js'
import { ChoraleError } from '../errors.ts'
import { type Opening, parseOpening } from '../protocol/opening.ts'
import { checkReceipts, type SessionEvidence, type VerifySignature } from '../protocol/receipt-check.ts'
import { parseReceipt } from '../protocol/receipts.ts'
import { parseSigned } from '../protocol/signed.ts'
import { isHanded, type StepDigest, unpackSteps } from '../protocol/step-chain.ts'
import { MAX_OPENING_BYTES } from '../protocol/limits.ts'
import { fromWire, wireBytes, type WireDtype } from '../protocol/wire-dtype.ts'
import type { SpanRunner } from '../session/span-runner.ts'
import { relativeError } from '../tensor/relative-error.ts'
import { tensor } from '../tensor/tensor.ts'
import type { AuditAnswer } from './audit-messages.ts'
import { equalBytes } from './evidence.ts'

/** Re-running a session's span from what its server committed to. */

/** A session's evidence whose signatures, chain and digests are right; the numbers are not judged yet. */
export interface CheckedSession {
  readonly evidence: SessionEvidence
  readonly opening: Opening
  /** The chain after the last receipt. */
  readonly chain: Uint8Array
  /** Steps whose bytes are here, rollbacks included, from the first one on. */
  readonly steps: readonly CheckedStep[]
}

export interface CheckedStep {
  readonly seq: number
  readonly position: number
  /** 0 for a rollback. */
  readonly tokens: number
  /** Rows in and out as they travelled; none for a rollback. The output has all rows of the step, its last, or none. */
  readonly input: Uint8Array
  readonly output: Uint8Array
  /** Whether the server had its tokens' keys and values from another one. */
  readonly handed?: boolean
}

/**
 * Checks an audit's answer: the opening, every receipt, the chain over all steps, and that the bytes are those whose
 * digests were signed.
 * @throws `protocol` naming what does not hold.
 */
export async function checkAudit(answer: AuditAnswer, verify: VerifySignature): Promise<CheckedSession> {
  const [first, ...rest] = answer.receipts
  const entries = [{ ...first!, opening: answer.opening }, ...rest]
  const { sessions, problems } = await checkReceipts(entries, verify)
  if (problems[0]) throw wrong(problems[0].field, `receipt ${problems[0].entry}: ${problems[0].message}`)
  const [evidence, other] = sessions
  if (evidence === undefined || other !== undefined || !evidence.complete) {
    throw wrong('receipts', 'the receipts are not those of one whole session')
  }
  const { body } = parseSigned(answer.opening, 'opening', MAX_OPENING_BYTES)
  const opening = parseOpening(body)
  const digests = answer.receipts.flatMap(({ steps }) => unpackSteps(steps))
  const steps: CheckedStep[] = []
  let next = 0
  for (const digest of digests) {
    if (digest.tokens === 0) {
      steps.push({ ...digest, input: NOTHING, output: NOTHING })
      continue
    }
    const bytes = answer.steps[next]
    if (bytes === undefined) break
    next++
    const handed = isHanded(digest)
    checkDigests(handed ? { ...digest, output: EMPTY_DIGEST } : digest, bytes)
    steps.push({ ...digest, ...bytes, ...(handed && { handed }) })
  }
  if (next !== answer.steps.length) throw wrong('data', 'bytes of more steps than the receipts name')
  return { evidence, opening, chain: parseReceipt(answer.receipts.at(-1)!).receipt.chain, steps }
}

const NOTHING = new Uint8Array(0)
const EMPTY_DIGEST = sha256(NOTHING)

function checkDigests(
  digest: StepDigest,
  bytes: { readonly input: Uint8Array; readonly output: Uint8Array },
): void {
  for (const side of ['input', 'output'] as const) {
    if (!equalBytes(sha256(bytes[side]), digest[side])) {
      throw wrong(side, `the ${side} of step ${digest.seq} is not what the receipt's digest says`)
    }
  }
}

/** A step's rows as numbers. `wanted` is the format that the opening asks for; servers may speak float32 instead. */
function decodeRows(
  step: CheckedStep,
  hiddenSize: number,
  wanted: WireDtype,
): { readonly input: Float32Array; readonly output: Float32Array; readonly dtype: WireDtype } {
  const dtype = step.input.length === step.tokens * hiddenSize * 4 ? 'f32' : wanted
  const row = hiddenSize * wireBytes(dtype)
  if (step.input.length !== step.tokens * row) {
    throw wrong('input', `step ${step.seq} has ${step.input.length} bytes for ${step.tokens} tokens`)
  }
  const rows = step.output.length / row
  if (rows !== 0 && rows !== 1 && rows !== step.tokens) {
    throw wrong('output', `step ${step.seq} has ${step.output.length} bytes out for ${step.tokens} tokens`)
  }
  // Copies: bytes inside a message lie at any alignment.
  return {
    input: fromWire(step.input.slice(), dtype),
    output: fromWire(step.output.slice(), dtype),
    dtype,
  }
}

/** How far a server's outputs are from this machine's. */
export interface Comparison {
  /** Steps whose outputs were compared, and rows of them. */
  readonly steps: number
  readonly rows: number
  /** The step that is farthest off, by its error ÷ margin; undefined when nothing could be compared. */
  readonly worst: { readonly seq: number; readonly error: number; readonly margin: number } | undefined
  /**
   * Set where the first step after a hand-over is off already: the client compared it with the old server's, so what was
   * handed over was wrong, and the session it came from shows whose fault that is. Nothing behind it counts.
   */
  readonly handedWrong?: boolean
}

/**
 * Runs the session's steps on `runner`, which holds the same blocks of the same model, and compares every row that
 * came out. Each step runs on what the server said went in, so errors of others do not count against it.
 * @param margin honest distance by the format the rows travelled in (`margins.ts`).
 * @throws `protocol` when bytes are no rows of the model; whatever the runner throws, which is no verdict.
 */
export async function compareSession(
  { steps, opening }: Pick<CheckedSession, 'steps' | 'opening'>,
  runner: SpanRunner,
  margin: (dtype: WireDtype) => number,
  signal?: AbortSignal,
): Promise<Comparison> {
  const { hiddenSize } = runner
  const most = steps.reduce((max, { position, tokens }) => Math.max(max, position + tokens), 1)
  const session = await runner.open({ maxTokens: most })
  let [compared, rows] = [0, 0]
  let worst: Comparison['worst']
  let afterHandover = false
  try {
    for (const step of steps) {
      if (step.position < session.position) await session.rollback(step.position)
      if (step.tokens === 0) continue
      const { dtype, input, output } = decodeRows(step, hiddenSize, opening.dtype)
      const hidden = tensor(step.tokens, hiddenSize, input)
      const own = await session.step(hidden, signal === undefined ? {} : { signal })
      if (step.handed === true) afterHandover = true
      if (output.length === 0) continue
      const error = relativeError(output, own.data.subarray(own.data.length - output.length))
      const allowed = margin(dtype)
      if (afterHandover && error > allowed) return { steps: compared, rows, worst, handedWrong: true }
      afterHandover = false
      compared++
      rows += output.length / hiddenSize
      if (worst === undefined || excess(error, allowed) > excess(worst.error, worst.margin)) {
        worst = { seq: step.seq, error, margin: allowed }
      }
    }
  } finally {
    await session.close()
  }
  return { steps: compared, rows, worst }
}

/** Whether a comparison clears its server: something was compared, and nothing is beyond the margin. */
export function isHonest({ worst }: Comparison): boolean {
  return worst !== undefined && worst.error <= worst.margin
}

function excess(error: number, margin: number): number {
  return error === 0 ? 0 : error / margin
}

/** Whether the checked session is the one a work receipt is about: same server, client and chain. */
export function isSession(
  checked: CheckedSession,
  work: {
    readonly session: string
    readonly server: string
    readonly client: string
    readonly chain: Uint8Array
  },
): boolean {
  const { evidence, chain } = checked
  return (
    evidence.session === work.session &&
    evidence.server === work.server &&
    evidence.client === work.client &&
    equalBytes(chain, work.chain)
  )
}

function wrong(field: string, message: string): ChoraleError {
  return new ChoraleError('protocol', `audit: ${message}`, { field })
}
