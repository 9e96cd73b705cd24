/**
 * Philox4x32-10, the counter-based generator of Salmon, Moraes, Dror and Shaw, "Parallel Random Numbers:
 * As Easy as 1, 2, 3" (SC 2011), checked against the known answers of its Random123 library.
 *
 * A pure function of counter and key in 32-bit integer arithmetic: the same words in every JavaScript engine
 * and in WGSL, in any order, for any subset.
 */

const ROUNDS = 10
/** Multiplier 0xD2511F53 of the first lane, in 16-bit halves so that the products are exact in a double. */
const M0 = 0xd2511f53
const M0_HIGH = 0xd251
const M0_LOW = 0x1f53
/** Multiplier 0xCD9E8D57 of the second lane. */
const M1 = 0xcd9e8d57
const M1_HIGH = 0xcd9e
const M1_LOW = 0x8d57
/** What is added to the key each round (golden ratio and sqrt(3) - 1). */
const W0 = 0x9e3779b9
const W1 = 0xbb67ae85

/**
 * Writes the four words of one block into `out[0..3]`. All arguments are taken modulo 2^32.
 */
export function philox4x32(
  counter0: number,
  counter1: number,
  counter2: number,
  counter3: number,
  key0: number,
  key1: number,
  out: Uint32Array,
): void {
  let x0 = counter0 | 0
  let x1 = counter1 | 0
  let x2 = counter2 | 0
  let x3 = counter3 | 0
  let k0 = key0 | 0
  let k1 = key1 | 0
  for (let round = 0; round < ROUNDS; round++) {
    // The high word of a 32 × 32 product from 16 × 16 ones, each sum below 2^32 when read as unsigned.
    const a0 = x0 & 0xffff
    const a1 = x0 >>> 16
    const aLow = Math.imul(a0, M0_LOW)
    const aMid = Math.imul(a1, M0_LOW) + (aLow >>> 16)
    const aMid2 = Math.imul(a0, M0_HIGH) + (aMid & 0xffff)
    const aHigh = (Math.imul(a1, M0_HIGH) + (aMid >>> 16) + (aMid2 >>> 16)) | 0
    const b0 = x2 & 0xffff
    const b1 = x2 >>> 16
    const bLow = Math.imul(b0, M1_LOW)
    const bMid = Math.imul(b1, M1_LOW) + (bLow >>> 16)
    const bMid2 = Math.imul(b0, M1_HIGH) + (bMid & 0xffff)
    const bHigh = (Math.imul(b1, M1_HIGH) + (bMid >>> 16) + (bMid2 >>> 16)) | 0
    const low0 = Math.imul(x0, M0)
    const low1 = Math.imul(x2, M1)
    x0 = bHigh ^ x1 ^ k0
    x1 = low1
    x2 = aHigh ^ x3 ^ k1
    x3 = low0
    k0 = (k0 + W0) | 0
    k1 = (k1 + W1) | 0
  }
  out[0] = x0
  out[1] = x1
  out[2] = x2
  out[3] = x3
}
