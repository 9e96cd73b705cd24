import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { createApp } from '../../src/api/app.ts'
import { fakeLanguageModel } from './fake-language-model.ts'

const PATHS = ['/v1/chat/completions', '/v1/completions', '/v1/tokenize', '/v1/detokenize']

/** A good request of every endpoint at once, to be broken. */
const GOOD: Record<string, unknown> = {
  model: 'tests/fake',
  messages: [{ role: 'user', content: 'x' }],
  prompt: 'x',
  content: 'x',
  tokens: [1, 2],
  temperature: 1,
  top_p: 0.9,
  top_k: 5,
  min_p: 0.1,
  max_tokens: 3,
  stop: ['a'],
  seed: 1,
  presence_penalty: 0,
  frequency_penalty: 0,
  repetition_penalty: 1,
  logit_bias: { '1': 1 },
  stream: false,
  stream_options: { include_usage: true },
  n: 1,
  tools: [],
  response_format: { type: 'text' },
  top_logprobs: 0,
}

/** A small seeded generator: a failing case can be had again from its number. */
function random(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

const ODD: unknown[] = [
  null,
  true,
  false,
  -1,
  0,
  1.5,
  1e308,
  2 ** 53,
  '',
  'x',
  '\u0000',
  '\ud800',
  [],
  {},
  [[]],
  [null],
  [1e9],
]
const ODDER: unknown[] = [
  { type: 'text' },
  { constructor: 1 },
  { 'a"b\n': 1 },
  'x'.repeat(5000),
  Array(300).fill(0),
  [{}],
  [''],
]

function mutate(next: () => number): string {
  const body: Record<string, unknown> = structuredClone(GOOD)
  const keys = Object.keys(body)
  for (let count = 1 + Math.floor(next() * 3); count > 0; count--) {
    const key = keys[Math.floor(next() * keys.length)]!
    const values = next() < 0.7 ? ODD : ODDER
    const value = structuredClone(values[Math.floor(next() * values.length)])
    const target = body[key]
    const how = next()
    if (how < 0.1) delete body[key]
    else if (how < 0.3 && typeof target === 'object' && target !== null) {
      const inner = Array.isArray(target) ? (target[0] ?? {}) : target
      if (typeof inner === 'object' && inner !== null) {
        const names = [...Object.keys(inner), '__proto__', '99999999999']
        Object.assign(inner, { [names[Math.floor(next() * names.length)]!]: value })
      }
    } else body[key] = value
  }
  const text = JSON.stringify(body)
  if (next() < 0.15) {
    const at = Math.floor(next() * text.length)
    const odd = '[]{}",:\\\u0000é1e-'
    return text.slice(0, at) + odd[Math.floor(next() * odd.length)]! + text.slice(at + Math.floor(next() * 3))
  }
  return text
}

async function check(response: Response, what: string): Promise<void> {
  if (response.status === 200) {
    await response.text()
    return
  }
  expect(response.status >= 400 && response.status < 500, `${response.status} for ${what}`).toBe(true)
  const body = (await response.json()) as { error: Record<string, unknown> }
  expect(Object.keys(body), what).toEqual(['error'])
  expect(typeof body.error['message'], what).toBe('string')
  expect(typeof body.error['type'], what).toBe('string')
  expect(String(body.error['message']).length, what).toBeLessThan(2000)
}

describe('gateway under bad input', () => {
  const app = createApp({ models: () => [fakeLanguageModel({ answer: () => 'ok' })], version: 'x' })

  it('20000 mutated bodies are answered or refused with a 4xx that says why, never a 500', async () => {
    const next = random(1)
    const statuses = new Map<number, number>()
    for (let i = 0; i < 20_000; i++) {
      const body = mutate(next)
      const path = PATHS[i % PATHS.length]!
      const response = await app.request(path, { method: 'POST', body })
      statuses.set(response.status, (statuses.get(response.status) ?? 0) + 1)
      await check(response, `case ${i}: ${path} ${body.slice(0, 500)}`)
    }
    // Both ways must have been taken, or the fuzzer tests nothing.
    expect(statuses.get(200)).toBeGreaterThan(500)
    expect(statuses.get(400)).toBeGreaterThan(500)
  })

  it('bytes, JSON values, paths and headers of any kind', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...PATHS),
        fc.oneof(fc.uint8Array({ maxLength: 200 }), fc.json({ maxDepth: 4 }), fc.string({ unit: 'binary' })),
        async (path, body) =>
          check(await app.request(path, { method: 'POST', body: body as BodyInit }), path),
      ),
      { numRuns: 3000, seed: 1 },
    )
    await fc.assert(
      fc.asyncProperty(fc.webPath(), fc.constantFrom('GET', 'POST', 'PUT', 'DELETE'), async (path, method) =>
        check(await app.request(`/v1/models/${path}`, { method }), path),
      ),
      { numRuns: 2000, seed: 1 },
    )
  })

  it('the worst bodies of a megabyte are refused in well under a second', async () => {
    const n = 1024 * 1024 - 100
    const bodies = [
      `{"model":"tests/fake","prompt":[${'"",'.repeat(n / 3 - 20)}""]}`,
      `{"model":"tests/fake","messages":[${'0,'.repeat(n / 2 - 20)}0]}`,
      `{"model":"tests/fake","tokens":[${'{},'.repeat(n / 3 - 20)}{}]}`,
      `{"model":"tests/fake","messages":[{"role":"user","content":[${'0,'.repeat(n / 2 - 40)}0]}]}`,
      `{"model":"tests/fake","messages":[{"role":"user","content":"${'x'.repeat(n - 80)}"}]}`,
      '['.repeat(n),
    ]
    for (const body of bodies) {
      for (const path of PATHS) {
        const started = performance.now()
        const response = await app.request(path, { method: 'POST', body })
        expect(response.status, body.slice(0, 60)).toBe(400)
        expect(performance.now() - started, `${path} ${body.slice(0, 60)}`).toBeLessThan(2000)
      }
    }
  })
})
