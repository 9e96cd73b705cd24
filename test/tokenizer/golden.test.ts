import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { createFileStore } from '../../node/file-store.ts'
import { openModel } from '../../src/model/open-model.ts'
import { createDetokenizer } from '../../src/tokenizer/detokenize-stream.ts'
import { createTokenizer } from '../../src/tokenizer/hf-tokenizer.ts'
import type { ChatMessage, Tokenizer } from '../../src/tokenizer/tokenizer.ts'
import { SHARED, SMOLLM2, STORIES, STORYTELLER, tokenizerOf } from './real-tokenizers.ts'

interface Chat {
  readonly messages: ChatMessage[]
  readonly prompt_ids: number[]
  readonly greedy_ids: number[]
  readonly text: string
}

function readJson(path: string): unknown {
  return JSON.parse(readFileSync(path, 'utf8'))
}

function streamed(tokenizer: Tokenizer, ids: readonly number[]): string {
  const stream = createDetokenizer(tokenizer)
  return ids.map((id) => stream.push(id)).join('') + stream.flush()
}

describe('storyteller', () => {
  const golden = readJson(join(import.meta.dirname, '../vectors/tokenizer/storyteller.json')) as {
    chats: Chat[]
  }
  let tokenizer: Tokenizer
  beforeAll(async () => {
    tokenizer = await tokenizerOf(STORYTELLER)
  })

  it('encodes chats as transformers does', () => {
    expect(golden.chats.length).toBeGreaterThan(3)
    for (const chat of golden.chats) {
      expect(tokenizer.encodeChat(chat.messages)).toEqual(chat.prompt_ids)
      expect(tokenizer.encode(tokenizer.renderChat(chat.messages), { addSpecial: false })).toEqual(
        chat.prompt_ids,
      )
    }
  })

  it('decodes answers, whole and streamed', () => {
    for (const chat of golden.chats) {
      expect(tokenizer.decode(chat.greedy_ids)).toBe(chat.text)
      expect(streamed(tokenizer, chat.greedy_ids)).toBe(chat.text)
    }
  })

  it('knows its ends', () => {
    expect(tokenizer.eosTokenIds).toEqual([2])
    expect(tokenizer.isSpecial(2)).toBe(true)
    expect(tokenizer.token(2)).toBe('<|end|>')
    expect(tokenizer.hasChatTemplate).toBe(true)
  })
})

describe.skipIf(!existsSync(SMOLLM2))('SmolLM2 from its GGUF (needs ../shared)', () => {
  interface Golden {
    readonly chats: (Omit<Chat, 'messages'> & { readonly user: string; readonly rendered: string })[]
    readonly tokens: { readonly text: string; readonly ids: number[] }[]
  }
  let golden: Golden
  let tokenizer: Tokenizer
  beforeAll(async () => {
    golden = readJson(join(SHARED, 'models/smollm2-135m-instruct-q4_1.golden.json')) as Golden
    tokenizer = await tokenizerOf(SMOLLM2)
  })

  it('renders and encodes chats as transformers does', () => {
    for (const chat of golden.chats) {
      const messages: ChatMessage[] = [{ role: 'user', content: chat.user }]
      expect(tokenizer.renderChat(messages)).toBe(chat.rendered)
      expect(tokenizer.encodeChat(messages)).toEqual(chat.prompt_ids)
      expect(streamed(tokenizer, chat.greedy_ids)).toBe(chat.text)
    }
  })

  it('encodes and decodes the golden texts', () => {
    for (const { text, ids } of golden.tokens) {
      expect(tokenizer.encode(text)).toEqual(ids)
      expect(tokenizer.decode(ids, { special: true })).toBe(text)
    }
  })
})

describe.skipIf(!existsSync(STORIES))('stories260K from its GGUF (needs ../shared)', () => {
  it('decodes the documented text', async () => {
    const golden = readJson(join(SHARED, 'models/stories260K/golden_stories260K.json')) as {
      greedy_from_bos_ids: number[]
      greedy_text: string
    }
    const tokenizer = await tokenizerOf(STORIES)
    const text = tokenizer.decode(golden.greedy_from_bos_ids)
    expect(text.length).toBeGreaterThan(100)
    expect(golden.greedy_text.startsWith(text) || text.startsWith(golden.greedy_text)).toBe(true)
    // Encoding the text again gives the ids the model wrote.
    expect(tokenizer.encode(text)).toEqual(golden.greedy_from_bos_ids)
  })

  it('joins pieces by score as SentencePiece does', async () => {
    const model = await openModel(STORIES, { files: createFileStore() })
    const files = await model.tokenizerFiles()
    await model.close()
    if (files === undefined) throw new Error('no tokenizer')
    const tokenizer = createTokenizer(files, model.spec)
    const pieces = (
      readJson(join(SHARED, 'models/stories260K/tok512.json')) as { pieces: [string, number][] }
    ).pieces
    // Control and byte pieces (ids up to 258) never come out of joining.
    const scores = new Map(
      pieces.flatMap(([piece, score], id): [string, [number, number]][] =>
        id > 258 ? [[Buffer.from(piece, 'latin1').toString('utf8'), [score, id]]] : [],
      ),
    )
    for (const text of SAMPLES) {
      expect([text, tokenizer.encode(text, { addSpecial: false })]).toEqual([text, joinByScore(text, scores)])
    }
  })
})

const SAMPLES = [
  'Once upon a time, there was a little girl named Lily.',
  'The  quick brown fox\n\njumps over "the" lazy dog!',
  'aaaaaaaaaaaaaaaa bbbbbb abababab',
  ' leading and trailing ',
  'naïve café — 東京 🦊',
  'She said, "I don\'t know." Tim was so happyyyyy.',
  'thethethe inging erer',
  'x',
]

/** SentencePiece's algorithm said slowly: join the neighbours of highest score, leftmost first, until none joins. */
function joinByScore(text: string, scores: ReadonlyMap<string, [score: number, id: number]>): number[] {
  const parts = Array.from(` ${text}`)
  for (;;) {
    let best = -1
    let bestScore = -Infinity
    for (let at = 0; at + 1 < parts.length; at++) {
      const score = scores.get(`${parts[at]}${parts[at + 1]}`)?.[0]
      if (score !== undefined && score > bestScore) {
        best = at
        bestScore = score
      }
    }
    if (best === -1) break
    parts.splice(best, 2, `${parts[best]}${parts[best + 1]}`)
  }
  return parts.flatMap((part) => {
    const id = scores.get(part)?.[1]
    return id === undefined ? Array.from(Buffer.from(part, 'utf8'), (byte) => byte + 3) : [id]
  })
}
