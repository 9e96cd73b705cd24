import { sha256 } from '@noble/hashes/sha2.js'
import { ChoraleError } from '../errors.ts'
import { STEP_CHAIN_CONTEXT } from './ids.ts'
import { MAX_RECEIPT_STEPS } from './limits.ts'
import { signedBytes } from './signed.ts'

/** One step as evidence: where it was, and SHA-256 of what went in and of the rows that came out, as on the wire. */
export interface StepDigest {
  readonly seq: number
  readonly position: number
  /** 0 for a rollback, whose digests are zeros. */
  readonly tokens: number
  readonly input: Uint8Array
  readonly output: Uint8Array
}

export const DIGEST_BYTES = 32

/**
 * Whether a step's tokens came from another server with their keys and values (ADOPT): nothing was computed, so nothing
 * is counted, and the digest of the output is zeros. The input's is zeros too where the server was not told what went in.
 */
export function isHanded({ tokens, output }: Pick<StepDigest, 'tokens' | 'output'>): boolean {
  return tokens > 0 && output.every((byte) => byte === 0)
}

const STEP_BYTES = 12 + 2 * DIGEST_BYTES

/** Where a session's hash chain begins: the opening that both ends know, as it was signed. */
export function firstLink(openingBody: Uint8Array): Uint8Array {
  return sha256(signedBytes(STEP_CHAIN_CONTEXT, openingBody))
}

/**
 * The chain after the steps of one receipt: h' = SHA-256(h ‖ step ‖ step …), each step as `packSteps` writes it. One
 * hash a receipt and not one a step: hashing so few bytes costs what the call costs.
 */
export function foldSteps(link: Uint8Array, packed: Uint8Array): Uint8Array {
  return sha256(linkedSteps(link, packed))
}

/** What `foldSteps` hashes, for whoever has a quicker SHA-256. */
export function linkedSteps(link: Uint8Array, packed: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(link.length + packed.length)
  bytes.set(link)
  bytes.set(packed, link.length)
  return bytes
}

/** Steps as bytes, 76 each: seq, position, tokens as u32 little-endian, then the digests of input and output. */
export function packSteps(steps: readonly StepDigest[]): Uint8Array {
  const bytes = new Uint8Array(steps.length * STEP_BYTES)
  const view = new DataView(bytes.buffer)
  for (const [i, step] of steps.entries()) {
    const at = i * STEP_BYTES
    view.setUint32(at, step.seq, true)
    view.setUint32(at + 4, step.position, true)
    view.setUint32(at + 8, step.tokens, true)
    bytes.set(step.input, at + 12)
    bytes.set(step.output, at + 12 + DIGEST_BYTES)
  }
  return bytes
}

/** Reads packed steps, at most `MAX_RECEIPT_STEPS`. NOT checked: that they follow each other. @throws `protocol`. */
export function unpackSteps(bytes: Uint8Array): StepDigest[] {
  const count = bytes.length / STEP_BYTES
  if (!Number.isInteger(count) || count > MAX_RECEIPT_STEPS) {
    throw new ChoraleError(
      'protocol',
      `field steps must be at most ${MAX_RECEIPT_STEPS} × ${STEP_BYTES} bytes, got ${bytes.length}`,
      { field: 'steps' },
    )
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  return Array.from({ length: count }, (_, i) => {
    const at = i * STEP_BYTES
    return {
      seq: view.getUint32(at, true),
      position: view.getUint32(at + 4, true),
      tokens: view.getUint32(at + 8, true),
      input: bytes.subarray(at + 12, at + 12 + DIGEST_BYTES),
      output: bytes.subarray(at + 12 + DIGEST_BYTES, at + STEP_BYTES),
    }
  })
}
