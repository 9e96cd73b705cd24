import { describe, expect, it } from 'vitest'
import { ChoraleError } from '../../src/errors.ts'
import { MAX_BLOB_BYTES, PIECE_BYTES } from '../../src/model/blob.ts'
import {
  type BlobQuestion,
  encodeBlobQuestion,
  encodeHeld,
  MAX_BLOB_QUESTION_BYTES,
  MAX_HELD_BYTES,
  MAX_PIECES,
  MAX_ROOTS,
  parseBlobQuestion,
  parseHeld,
} from '../../src/protocol/blob-messages.ts'
import { encodeCbor } from '../../src/protocol/cbor.ts'
import { mutate, noise, seededRandom, withoutStackTraces } from './random.ts'

const ROOT = 'ab'.repeat(32)
const QUESTIONS: readonly BlobQuestion[] = [
  { ask: 'manifest', hash: ROOT },
  { ask: 'have', roots: [ROOT, '01'.repeat(32)] },
  { ask: 'list', root: ROOT },
  { ask: 'piece', root: ROOT, index: 7 },
]
const HELD = [
  undefined,
  { byteLength: 5 * PIECE_BYTES },
  { byteLength: 9 * PIECE_BYTES + 1, pieces: Uint8Array.of(0b1010, 0b11) },
]

describe('parseBlobQuestion', () => {
  it.each(QUESTIONS)('reads what encodeBlobQuestion wrote: $ask', (question) => {
    expect(parseBlobQuestion(encodeBlobQuestion(question))).toEqual(question)
  })

  it('the longest question fits its limit', () => {
    const roots = Array.from({ length: MAX_ROOTS }, (_, i) => i.toString(16).padStart(64, 'f'))
    const bytes = encodeBlobQuestion({ ask: 'have', roots })
    expect(bytes.length).toBeLessThanOrEqual(MAX_BLOB_QUESTION_BYTES)
    expect(parseBlobQuestion(bytes)).toEqual({ ask: 'have', roots })
  })

  it('takes fields of newer versions', () => {
    const newer = encodeCbor({ ask: 'list', root: new Uint8Array(32).fill(0xab), fast: true })
    expect(parseBlobQuestion(newer)).toEqual({ ask: 'list', root: ROOT })
  })

  it.each<[string, object]>([
    ['ask', { ask: 'other' }],
    ['ask', {}],
    ['hash', { ask: 'manifest', hash: new Uint8Array(31) }],
    ['root', { ask: 'list', root: ROOT }],
    ['roots', { ask: 'have', roots: [] }],
    ['roots', { ask: 'have', roots: Array.from({ length: MAX_ROOTS + 1 }, () => new Uint8Array(32)) }],
    ['roots', { ask: 'have', roots: [new Uint8Array(33)] }],
    ['index', { ask: 'piece', root: new Uint8Array(32), index: MAX_PIECES }],
    ['index', { ask: 'piece', root: new Uint8Array(32), index: -1 }],
  ])('names what is wrong: %s %#', (field, question) => {
    expect(() => parseBlobQuestion(encodeCbor(question))).toThrow(
      expect.objectContaining({ code: 'protocol', field }),
    )
  })
})

describe('parseHeld', () => {
  it('reads what encodeHeld wrote', () => {
    expect(parseHeld(encodeHeld(HELD), 3)).toEqual(HELD)
  })

  it('the longest answer fits its limit', () => {
    const pieces = new Uint8Array(MAX_PIECES / 8).fill(255)
    const held = Array.from({ length: MAX_ROOTS }, () => ({ byteLength: MAX_BLOB_BYTES, pieces }))
    const bytes = encodeHeld(held)
    expect(bytes.length).toBeLessThanOrEqual(MAX_HELD_BYTES)
    expect(parseHeld(bytes, MAX_ROOTS)).toEqual(held)
  })

  it.each<[string, unknown]>([
    ['1 entries', [null, null]],
    ['no pair', [5]],
    ['out of bounds', [[0, true]]],
    ['out of bounds', [[MAX_BLOB_BYTES + 1, true]]],
    ['wrong length', [[PIECE_BYTES, new Uint8Array(2)]]],
    ['wrong length', [[PIECE_BYTES, false]]],
  ])('says what is wrong: %s', (message, held) => {
    expect(() => parseHeld(encodeCbor({ held }), 1)).toThrow(message)
  })
})

describe('frames of blobs', () => {
  it('takes 10^5 broken questions and answers as protocol errors', () => {
    const random = seededRandom(71)
    const questions = QUESTIONS.map(encodeBlobQuestion)
    const answer = encodeHeld(HELD)
    withoutStackTraces(() => {
      for (let i = 0; i < 100_000; i++) {
        try {
          if (i % 10 === 0) parseBlobQuestion(noise(80, random))
          else if (i % 2 === 0) parseBlobQuestion(mutate(questions[i % questions.length]!, random))
          else parseHeld(mutate(answer, random), 3)
        } catch (error) {
          if (!(error instanceof ChoraleError) || error.code !== 'protocol') throw error
        }
      }
    })
  })
})
