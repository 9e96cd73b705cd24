import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import OpenAI from 'openai'
import { describe, expect, it } from 'vitest'
import { runChorale, startChorale } from './run-chorale.ts'

const SHARED = join(import.meta.dirname, '../../../shared/models')
const STORIES = join(SHARED, 'stories260K')
const STORYTELLER_GOLDEN = join(SHARED, 'storyteller.golden.json')

function goldenWhere(path: string): boolean {
  const there = existsSync(path)
  if (!there) console.log(`skipped: no golden files at ${path}`)
  return there
}

interface Golden {
  chats: {
    messages: { content: string }[]
    prompt_ids: number[]
    greedy_ids: number[]
    margins: number[]
    text: string
  }[]
}

async function chatJson(args: readonly string[]) {
  const { code, out, err } = await runChorale(['chat', ...args, '--local', '--greedy', '--json'])
  expect(code, err).toBe(0)
  return JSON.parse(out) as {
    promptIds: number[]
    ids: number[]
    text: string
    logprobs: number[]
    usage: { promptTokens: number; completionTokens: number }
    route: { peer: string; start: number; end: number; engine: string }[]
  }
}

describe('chorale chat --local', () => {
  it.skipIf(!goldenWhere(STORIES))(
    'greedy ids of stories260K.gguf from BOS are those llama2.c documents',
    async () => {
      const golden = JSON.parse(readFileSync(join(STORIES, 'golden_stories260K.json'), 'utf8')) as {
        greedy_from_bos_ids: number[]
      }
      const wanted = golden.greedy_from_bos_ids.slice(1)
      const shown = await chatJson([
        join(STORIES, 'stories260K.gguf'),
        '--engine',
        'reference',
        '--max-tokens',
        String(wanted.length),
        '--once',
        '',
      ])
      expect(shown.promptIds).toEqual([1])
      expect(shown.ids).toEqual(wanted)
      expect(shown.logprobs.length).toBe(wanted.length)
      expect(shown.logprobs.every((value) => value <= 0)).toBe(true)
      expect(shown.route).toEqual([{ peer: 'local', start: 0, end: 5, engine: 'reference' }])
    },
  )

  it.skipIf(!goldenWhere(STORYTELLER_GOLDEN))(
    'greedy ids of the bundled model are those of transformers',
    async () => {
      const golden = JSON.parse(readFileSync(STORYTELLER_GOLDEN, 'utf8')) as Golden
      // Ties may break either way in f32, so the ids are compared up to the first one.
      const clear = (margins: readonly number[]) => {
        const tie = margins.findIndex((margin) => margin < 0.01)
        return tie < 0 ? margins.length : tie
      }
      const [chat] = golden.chats
        .filter(({ messages }) => messages.length === 1)
        .sort((a, b) => clear(b.margins) - clear(a.margins))
      const length = Math.min(60, clear(chat!.margins))
      expect(length).toBeGreaterThan(20)
      const prompt = chat!.messages[0]!.content
      const shown = await chatJson(['--engine', 'onnx', '--max-tokens', String(length), '--once', prompt])
      expect(shown.promptIds).toEqual(chat!.prompt_ids)
      expect(shown.ids).toEqual(chat!.greedy_ids.slice(0, length))
    },
  )

  it('says what is wrong with its arguments and exits 2, and 1 for a model that is not there', async () => {
    const bad = await runChorale(['chat', '--local', '--temperature', 'hot', '--once', 'x'])
    expect(bad).toMatchObject({ code: 2, out: '' })
    expect(bad.err).toContain('temperature is "hot", it must be a number from 0 to 100')
    expect((await runChorale(['chat', '--colour'])).code).toBe(2)
    const missing = await runChorale(['chat', './no/such/model', '--local', '--once', 'x'])
    expect(missing).toMatchObject({ code: 1, out: '' })
    expect(missing.err).toContain('no/such/model')
  })
})

describe('chorale gateway --local', () => {
  it('tells its URL, answers the official client with the same text for the same seed, ends on SIGTERM', async () => {
    const running = startChorale(['gateway', '--local', '--engine', 'reference', '--port', '0', '--json'], {
      CHORALE_API_KEYS: 'one,two',
    })
    try {
      const deadline = Date.now() + 30_000
      while (!running.out().includes('\n')) {
        if (Date.now() > deadline || running.child.exitCode !== null) throw new Error(running.err())
        await new Promise((resolve) => setTimeout(resolve, 20))
      }
      const { url, model } = JSON.parse(running.out()) as { url: string; model: string }
      expect(running.err()).toContain(`gateway: ${url}/v1`)
      const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'two', maxRetries: 0 })
      const ask = async (seed: number) => {
        const answer = await client.chat.completions.create({
          model: 'storyteller',
          messages: [{ role: 'user', content: 'Tell me a story about a fox.' }],
          max_tokens: 30,
          seed,
        })
        expect(answer.model).toBe(model)
        expect(answer.usage!.completion_tokens).toBe(30)
        return answer.choices[0]!.message.content
      }
      const [first, again, other] = [await ask(1), await ask(1), await ask(2)]
      expect(first!.length).toBeGreaterThan(40)
      expect(again).toBe(first)
      expect(other).not.toBe(first)
      expect((await fetch(`${url}/v1/models`)).status).toBe(401)
      const taken = await runChorale([
        'gateway',
        '--local',
        '--engine',
        'reference',
        '--port',
        new URL(url).port,
      ])
      expect(taken).toMatchObject({ code: 2 })
      expect(taken.err).toMatch(/is in use; choose another with --port/)
      running.child.kill('SIGTERM')
      expect((await running.ended).code).toBe(0)
    } finally {
      running.child.kill('SIGKILL')
      await running.ended
    }
  })
})
