import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Tokenizer as HuggingFaceTokenizer } from '@huggingface/tokenizers'
import { describe, expect, it } from 'vitest'
import { errorCode } from '../../src/errors.ts'
import { librarySteps } from '../../src/tokenizer/library-steps.ts'
import { SMOLLM2, STORYTELLER, tokenizerOf } from './real-tokenizers.ts'

/** What Hugging Face's Rust library does. */
const vectors = JSON.parse(
  readFileSync(join(import.meta.dirname, '../vectors/tokenizer/rust-tokenizers.json'), 'utf8'),
) as {
  steps: { step: Record<string, unknown>; out: [text: string, pieces: string[]][] }[]
  texts: [text: string, storyteller: number[], smollm2: number[]][]
}

function pieces(step: unknown, text: string): string[] {
  const tokenizer = new HuggingFaceTokenizer(
    {
      normalizer: null,
      pre_tokenizer: librarySteps(step, 'pre_tokenizer'),
      post_processor: null,
      decoder: null,
      added_tokens: [],
      model: { type: 'BPE', vocab: {}, merges: [] },
    },
    {},
  )
  return tokenizer.pre_tokenizer?.pre_tokenize(text) ?? [text]
}

/** Behaviours of Rust's library that no known tokenizer uses. */
const refused = ({ type, behavior, invert }: Record<string, unknown>) =>
  type === 'Split' && invert === true && String(behavior).startsWith('MergedWith')

describe('librarySteps', () => {
  it.each(vectors.steps.filter(({ step }) => !refused(step)))(
    'cuts as the Rust library does: $step',
    ({ step, out }) => {
      for (const [text, expected] of out) expect([text, pieces(step, text)]).toEqual([text, expected])
    },
  )

  it('says which behaviours it does not know', () => {
    for (const { step } of vectors.steps.filter((entry) => refused(entry.step))) {
      try {
        librarySteps(step, 'pre_tokenizer')
        expect.unreachable()
      } catch (error) {
        expect(errorCode(error)).toBe('not_supported')
      }
    }
  })
})

describe('encode', () => {
  it('gives the ids of the Rust library for texts of every kind: storyteller', async () => {
    const tokenizer = await tokenizerOf(STORYTELLER)
    for (const [text, ids] of vectors.texts) expect([text, tokenizer.encode(text)]).toEqual([text, ids])
  })

  it.skipIf(!existsSync(SMOLLM2))('the same: SmolLM2 (needs ../shared)', async () => {
    const tokenizer = await tokenizerOf(SMOLLM2)
    for (const [text, , ids] of vectors.texts) expect([text, tokenizer.encode(text)]).toEqual([text, ids])
  })
})
