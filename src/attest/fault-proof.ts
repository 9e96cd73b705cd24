import { sha256 } from '@noble/hashes/sha2.js'
import { ChoraleError, errorCode, errorMessage } from '../errors.ts'
import { decodeCborMap, encodeCbor } from '../protocol/cbor.ts'
import { bytesField, textField, uintField } from '../protocol/fields.ts'
import { MAX_MODEL_ID_LENGTH, MAX_PEER_ID_LENGTH } from '../protocol/limits.ts'
import type { VerifySignature } from '../protocol/receipt-check.ts'
import type { SpanRunner } from '../session/span-runner.ts'
import { checkAudit, type CheckedSession, type Comparison, compareSession } from './audit.ts'
import { MAX_AUDIT_BYTES, parseAuditAnswer } from './audit-messages.ts'
import { type ComputeClass, computeClass, honestMargin } from './margins.ts'

/**
 * Evidence that a server signed for numbers that no honest engine computes: the receipts with the digests it signed,
 * the bytes behind them, and the step that is wrong. Its SHA-256 goes on the ledger; anybody who has the model can judge.
 */
export interface FaultProof {
  readonly subnetId: number
  /** Node on the ledger, and the peer whose signatures are inside. */
  readonly defendant: number
  readonly peerId: string
  readonly modelId: string
  /** Number of the step that is farthest off, as the plaintiff saw it. */
  readonly seq: number
  /** An audit's answer, as the server gave it (`audit-messages.ts`). */
  readonly audit: Uint8Array
}

/** The audit, and a few hundred bytes of names. */
export const MAX_FAULT_PROOF_BYTES = MAX_AUDIT_BYTES + 1024

/** The canonical bytes. */
export function encodeFaultProof(proof: FaultProof): Uint8Array {
  return encodeCbor({ ...proof })
}

/** What the ledger keeps of a proof: 32 bytes. */
export function faultProofHash(bytes: Uint8Array): Uint8Array {
  return sha256(bytes)
}

/** Reads a proof. NOT checked: anything it claims. @throws `protocol` naming the field. */
export function parseFaultProof(bytes: Uint8Array): FaultProof {
  if (bytes.length > MAX_FAULT_PROOF_BYTES) {
    throw new ChoraleError(
      'protocol',
      `fault proof of ${bytes.length} bytes (at most ${MAX_FAULT_PROOF_BYTES})`,
    )
  }
  const map = decodeCborMap(bytes, 'fault proof')
  return {
    subnetId: uintField(map, 'subnetId', 0xffff_ffff),
    defendant: uintField(map, 'defendant', 0xffff_ffff),
    peerId: textField(map, 'peerId', MAX_PEER_ID_LENGTH),
    modelId: textField(map, 'modelId', MAX_MODEL_ID_LENGTH),
    seq: uintField(map, 'seq', 0xffff_ffff),
    audit: bytesField(map, 'audit', 1, MAX_AUDIT_BYTES),
  }
}

/** An engine that holds the accused span, for judging. */
export interface JudgeSpan {
  readonly runner: SpanRunner
  readonly compute: ComputeClass
  close(): Promise<void>
}

/**
 * The span [start, end) of a model on this machine's own engine.
 * @throws when this machine has not the model, or no room: then it has no opinion.
 */
export type LoadJudgeSpan = (
  modelId: string,
  start: number,
  end: number,
  maxTokens: number,
) => Promise<JudgeSpan>

/** `guilty`: the signatures hold and an output is beyond the margin. `unproven`: the bundle proves nothing. */
export interface FaultVerdict {
  readonly verdict: 'guilty' | 'innocent' | 'unproven'
  readonly reason: string
  readonly comparison?: Comparison
}

export interface FaultJudge {
  readonly verify: VerifySignature
  readonly loadSpan: LoadJudgeSpan
  readonly signal?: AbortSignal
}

/**
 * Judges a proof by recomputing it, against the peer that the ledger names as `defendant`'s.
 * @throws what loading or running the span throws: a voter that can't recompute does not vote.
 */
export async function verifyFaultProof(
  bytes: Uint8Array,
  accused: { readonly subnetId: number; readonly nodeId: number; readonly peerId: string },
  judge: FaultJudge,
): Promise<FaultVerdict> {
  const unproven = (reason: string): FaultVerdict => ({ verdict: 'unproven', reason })
  let proof: FaultProof
  try {
    proof = parseFaultProof(bytes)
  } catch (error) {
    return unproven(errorMessage(error))
  }
  if (proof.subnetId !== accused.subnetId || proof.defendant !== accused.nodeId) {
    return unproven(`the proof is against node ${proof.defendant} of subnet ${proof.subnetId}`)
  }
  if (proof.peerId !== accused.peerId) {
    return unproven(`peer ${proof.peerId} is not node ${accused.nodeId}, which is ${accused.peerId}`)
  }
  const judged = await judgeAudit(proof.audit, judge)
  if ('reason' in judged) return unproven(judged.reason)
  const { checked, comparison } = judged
  if (checked.evidence.server !== proof.peerId) {
    return unproven(`the receipts are of ${checked.evidence.server}`)
  }
  const { worst } = comparison
  if (worst === undefined) {
    return unproven(
      comparison.handedWrong ? 'what another server handed over was wrong' : 'no output is shown',
    )
  }
  const said = `step ${worst.seq} is off by ${worst.error.toExponential(2)} (margin ${worst.margin.toExponential(2)})`
  return { verdict: worst.error > worst.margin ? 'guilty' : 'innocent', reason: said, comparison }
}

/**
 * Checks an audit's answer and recomputes it on this machine's engine.
 * @returns a reason when signatures, chains or digests do not hold. @throws what loading or running the span throws.
 */
export async function judgeAudit(
  audit: Uint8Array,
  { verify, loadSpan, signal }: FaultJudge,
): Promise<
  { readonly checked: CheckedSession; readonly comparison: Comparison } | { readonly reason: string }
> {
  let checked: CheckedSession
  try {
    checked = await checkAudit(parseAuditAnswer(audit), verify)
  } catch (error) {
    if (!['protocol', 'not_found', 'bad_request'].includes(errorCode(error))) throw error
    return { reason: errorMessage(error) }
  }
  const { engine, numericMode, modelId, start, end } = checked.evidence
  const tokens = checked.steps.reduce((max, step) => Math.max(max, step.position + step.tokens), 1)
  const span = await loadSpan(modelId, start, end, tokens)
  try {
    const prover = computeClass(engine, numericMode)
    const comparison = await compareSession(
      checked,
      span.runner,
      (dtype) => honestMargin(prover, span.compute, dtype),
      signal,
    )
    return { checked, comparison }
  } catch (error) {
    // Signed bytes that are no rows of this model: its own engine throws no such code.
    if (errorCode(error) === 'protocol') return { reason: errorMessage(error) }
    throw error
  } finally {
    await span.close()
  }
}
