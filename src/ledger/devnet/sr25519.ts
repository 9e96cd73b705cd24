import { ristretto255 } from '@noble/curves/ed25519.js'
import { bytesToNumberLE } from '@noble/curves/utils.js'
import { keccakP } from '@noble/hashes/sha3.js'

/**
 * Checking sr25519 signatures: Schnorr on ristretto255 with a Merlin transcript over STROBE-128, as the schnorrkel crate
 * signs for Substrate. Only what a verifier needs; nothing here handles secrets.
 */

/** Bytes that STROBE-128 absorbs before it permutes. */
const RATE = 166
const ORDER = 2n ** 252n + 27742317777372353535851937790883648493n
const { Point } = ristretto255

/**
 * Whether `signature` (64 bytes) over `message` is of `publicKey` (32 bytes), in the signing context `substrate`.
 * Points and scalars that are not canonical, and signatures without schnorrkel's marker bit, are not valid.
 */
export function verifySr25519(signature: Uint8Array, message: Uint8Array, publicKey: Uint8Array): boolean {
  if (signature.length !== 64 || publicKey.length !== 32) return false
  const last = signature[63] as number
  if ((last & 128) === 0) return false
  const scalar = signature.slice(32)
  scalar[31] = last & 127
  const s = bytesToNumberLE(scalar)
  if (s >= ORDER) return false
  try {
    const key = Point.fromBytes(publicKey)
    const commitment = Point.fromBytes(signature.slice(0, 32))
    if (key.equals(Point.ZERO)) return false
    const transcript = new Transcript('SigningContext')
    transcript.append('', text('substrate'))
    transcript.append('sign-bytes', message)
    transcript.append('proto-name', text('Schnorr-sig'))
    transcript.append('sign:pk', publicKey)
    transcript.append('sign:R', signature.slice(0, 32))
    const challenge = bytesToNumberLE(transcript.challenge('sign:c', 64)) % ORDER
    return Point.BASE.multiplyUnsafe(s).subtract(key.multiplyUnsafe(challenge)).equals(commitment)
  } catch {
    return false // bytes that are no point
  }
}

/** Merlin: a transcript of labelled messages (https://merlin.cool). */
class Transcript {
  readonly #strobe = new Strobe('Merlin v1.0')

  constructor(label: string) {
    this.append('dom-sep', text(label))
  }

  append(label: string, message: Uint8Array): void {
    this.#strobe.metaAd(text(label), length32(message.length))
    this.#strobe.ad(message)
  }

  challenge(label: string, length: number): Uint8Array {
    this.#strobe.metaAd(text(label), length32(length))
    return this.#strobe.prf(length)
  }
}

/** The three operations of STROBE-128 that Merlin verifiers use (https://strobe.sourceforge.io/specs). */
class Strobe {
  readonly #state = new Uint8Array(200)
  readonly #words = new Uint32Array(this.#state.buffer)
  #at = 0
  #begin = 0

  constructor(label: string) {
    this.#state.set([1, RATE + 2, 1, 0, 1, 96])
    this.#state.set(text('STROBEv1.0.2'), 6)
    keccakP(this.#words)
    this.metaAd(text(label))
  }

  metaAd(...parts: readonly Uint8Array[]): void {
    this.#operation(0b1_0010)
    for (const part of parts) this.#absorb(part)
  }

  ad(bytes: Uint8Array): void {
    this.#operation(0b0010)
    this.#absorb(bytes)
  }

  prf(length: number): Uint8Array {
    this.#operation(0b0111)
    if (this.#at !== 0) this.#permute()
    const out = new Uint8Array(length)
    for (let i = 0; i < length; i++) {
      out[i] = this.#state[this.#at] as number
      this.#state[this.#at++] = 0
      if (this.#at === RATE) this.#permute()
    }
    return out
  }

  #operation(flags: number): void {
    const begin = this.#begin
    this.#begin = this.#at + 1
    this.#absorb(Uint8Array.of(begin, flags))
  }

  #absorb(bytes: Uint8Array): void {
    for (const byte of bytes) {
      this.#mix(this.#at++, byte)
      if (this.#at === RATE) this.#permute()
    }
  }

  #permute(): void {
    this.#mix(this.#at, this.#begin)
    this.#mix(this.#at + 1, 0x04)
    this.#mix(RATE + 1, 0x80)
    keccakP(this.#words)
    this.#at = 0
    this.#begin = 0
  }

  #mix(at: number, byte: number): void {
    this.#state[at] = (this.#state[at] as number) ^ byte
  }
}

function length32(value: number): Uint8Array {
  const bytes = new Uint8Array(4)
  new DataView(bytes.buffer).setUint32(0, value, true)
  return bytes
}

function text(value: string): Uint8Array {
  return new TextEncoder().encode(value)
}
