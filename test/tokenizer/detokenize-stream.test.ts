import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { errorCode } from '../../src/errors.ts'
import { createDetokenizer } from '../../src/tokenizer/detokenize-stream.ts'
import { createTokenizer } from '../../src/tokenizer/hf-tokenizer.ts'
import { byteLevelFiles, sentencePieceFiles } from './small-tokenizers.ts'

const byteLevel = createTokenizer(byteLevelFiles(['<|end|>']))
const sentencePiece = createTokenizer(sentencePieceFiles())

/** Ids of real text (so that characters of several bytes occur), of anything, and special tokens between. */
function idsOf(tokenizer: typeof byteLevel) {
  const text = fc
    .array(fc.constantFrom('ab', 'abc', ' a', '  ', 'é', '東', '🦊', '👩‍🚀', '\n', 'x', '\ufeff', '<|end|>'), {
      maxLength: 6,
    })
    .map((parts) => tokenizer.encode(parts.join(''), { addSpecial: false }))
  const anything = fc.array(fc.nat(tokenizer.vocabSize - 1), { maxLength: 8 })
  return fc.array(fc.oneof(text, anything), { maxLength: 5 }).map((lists) => lists.flat())
}

/** What stop strings mean, said slowly: the first end of any, the longest at that end. */
function naiveStop(text: string, stops: readonly string[]): { text: string; stopped: string | undefined } {
  for (let end = 1; end <= text.length; end++) {
    const complete = stops
      .filter((stop) => text.slice(0, end).endsWith(stop))
      .sort((a, b) => b.length - a.length)
    const longest = complete[0]
    if (longest !== undefined) return { text: text.slice(0, end - longest.length), stopped: longest }
  }
  return { text, stopped: undefined }
}

describe('createDetokenizer', () => {
  for (const [name, tokenizer] of [
    ['byte-level', byteLevel],
    ['SentencePiece', sentencePiece],
  ] as const) {
    it(`emits exactly decode(ids), cut at stop strings, in whole characters: 50,000 ${name} answers`, () => {
      const stops = fc.array(
        fc.constantFrom('a', 'ab', 'bc', 'abcab', ' a', '\n', 'éé', '🦊', '東é', 'x\n', 'aab', '\ufffd'),
        {
          maxLength: 3,
        },
      )
      let stoppedCount = 0
      fc.assert(
        fc.property(idsOf(tokenizer), stops, (ids, stop) => {
          const stream = createDetokenizer(tokenizer, { stop })
          const parts = ids.map((id) => stream.push(id))
          parts.push(stream.flush())
          const expected = naiveStop(tokenizer.decode(ids), stop)
          expect(parts.join('')).toBe(expected.text)
          expect(stream.stopped).toBe(expected.stopped)
          if (expected.stopped !== undefined) stoppedCount++
          for (const part of parts) if (!part.isWellFormed()) throw new Error('half a character')
        }),
        { numRuns: 50_000, seed: 1 },
      )
      expect(stoppedCount).toBeGreaterThan(1000)
    })
  }

  it('holds back the bytes of an unfinished character and what may become a stop string, nothing else', () => {
    const stream = createDetokenizer(byteLevel, { stop: ['abcab'] })
    const fox = byteLevel.encode('🦊')
    expect(fox.map((id) => stream.push(id)).join('|')).toBe('|||🦊')
    expect([...'xabc'].map((c) => stream.push(byteLevel.encode(c)[0] as number))).toEqual(['x', '', '', ''])
    expect(stream.push(byteLevel.encode('x')[0] as number)).toBe('abcx')
    expect(stream.flush()).toBe('')
  })

  it('returns nothing after a stop string', () => {
    const stream = createDetokenizer(byteLevel, { stop: ['b'] })
    const [a, b] = [byteLevel.encode('a')[0] as number, byteLevel.encode('b')[0] as number]
    expect([stream.push(a), stream.push(b), stream.push(a), stream.flush()]).toEqual(['a', '', '', ''])
    expect(stream.stopped).toBe('b')
  })

  it('drops the leading space of SentencePiece once, and keeps it when the text continues another', () => {
    const ids = sentencePiece.encode('  ab', { addSpecial: false })
    const run = (continues: boolean) => {
      const stream = createDetokenizer(sentencePiece, { continues })
      return ids.map((id) => stream.push(id)).join('') + stream.flush()
    }
    expect(run(false)).toBe(sentencePiece.decode(ids))
    expect(run(true)).toBe(` ${sentencePiece.decode(ids)}`)
  })

  it('takes the same time a token at the end of a long answer as at its start', () => {
    const ids = Array.from(
      { length: 200_000 },
      (_, index) => byteLevel.encode('a'.repeat(1 + (index % 2)))[0] as number,
    )
    const stream = createDetokenizer(byteLevel, { stop: ['aaab', 'b'] })
    let length = 0
    for (const id of ids) length += stream.push(id).length
    // Quadratic work would need minutes and run into the test's time limit.
    expect(length + stream.flush().length).toBe(200_000)
  })

  it.each([[['']], [['x'.repeat(1025)]], [Array.from({ length: 65 }, () => 'x')], [[7]]])(
    'refuses stop strings %#',
    (stop) => {
      try {
        createDetokenizer(byteLevel, { stop: stop as string[] })
        expect.unreachable()
      } catch (error) {
        expect(errorCode(error)).toBe('bad_request')
      }
    },
  )

  it('refuses ids outside the vocabulary', () => {
    const stream = createDetokenizer(byteLevel)
    for (const id of [-1, 1.5, byteLevel.vocabSize, Number.NaN]) {
      expect(() => stream.push(id)).toThrow(/outside the vocabulary/)
    }
  })
})
